# shellcheck shell=sh
# For the scripts that call git, after lib.sh. Nothing of the repository runs: no hooks, no file system monitor; nothing asks.
# shellcheck disable=SC2034

export GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_ASKPASS=true SSH_ASKPASS=true GCM_INTERACTIVE=never
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_PREFIX

quiet_git() {
  git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c gc.auto=0 -c maintenance.auto=false \
    -c protocol.ext.allow=never -c advice.detachedHead=false -c advice.addEmbeddedRepo=false "$@"
}

# git_ssh: no question on a terminal that is not there. An agent's own setting in the clone does not bind our own calls.
git_ssh() {
  export GIT_SSH_COMMAND="ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=20"
  [ ! -e "$SO_AUTH/deploy-key" ] ||
    GIT_SSH_COMMAND="$GIT_SSH_COMMAND -i ~/.orchestrator/auth/deploy-key -o IdentitiesOnly=yes"
}

# git_dir: the git directory of the work tree in the current folder, absolute or relative to it; fails when there is none.
git_dir() {
  if [ -d .git ]; then
    REPLY=.git
  else
    { read -r git_dir_word REPLY; } 2>/dev/null <.git || return 1
    [ "$git_dir_word" = gitdir: ]
  fi
}

# head_commit: the commit checked out in the clone that is the current folder, without a process; empty when it takes one to tell.
head_commit() {
  { read -r head_word REPLY; } 2>/dev/null <.git/HEAD || head_word='' REPLY=
  [ "$head_word" != ref: ] || { read -r REPLY; } 2>/dev/null <".git/$REPLY" || REPLY=
  case $REPLY in *[!0123456789abcdef]*) REPLY= ;; esac
}

# remove_dead_locks: in the clone that is the current folder: lock files that a killed git left, when no git runs there; fails when
# there were none to remove.
remove_dead_locks() {
  here=$(pwd -P)
  for process in /proc/[0-9]*; do
    { read -r name; } 2>/dev/null <"$process/comm" || continue
    case $name in git*) ;; *) continue ;; esac
    case $(readlink "$process/cwd")/ in "$here"/*) return 1 ;; esac
  done
  locks=$(find .git -name '*.lock' -type f ! -path '.git/modules/*' ! -path '.git/objects/*' -print -exec rm -f {} +)
  [ -n "$locks" ] && printf 'removed locks without an owner:\n%s\n' "$locks"
}

# is_clone_of URL: whether the clone that is the current folder came from there.
is_clone_of() {
  origin_url=$(quiet_git config --local --get-all remote.origin.url)
  [ "${origin_url%.git}" = "${1%.git}" ]
}

# fetch: all branches of origin. Sets new_tags: the tags that came with it, as the fingerprint lists them.
fetch() {
  new_tags=
  fetch_once && return
  remove_dead_locks && fetch_once
}
fetch_once() {
  new_tags=
  fetched=$(LC_ALL=C quiet_git -c fetch.output=full fetch --no-recurse-submodules --no-write-fetch-head origin 2>&1)
  fetch_code=$?
  [ -z "$fetched" ] || printf '%s\n' "$fetched"
  fetched=$fetched$NL
  while [ "${fetched#*'[new tag]'}" != "$fetched" ]; do
    fetched=${fetched#*'[new tag]'}
    fetched_tag=${fetched%%"$NL"*}
    new_tags=$new_tags${new_tags:+$NL}"ref refs/tags/${fetched_tag##* } "
  done
  return "$fetch_code"
}

# read_fetched: whether this job has fetched already; sets new_tags as that fetch did.
read_fetched() {
  [ -e "${dir:?}/fetched" ] || return 1
  new_tags=
  while IFS= read -r fetched_tag; do
    new_tags=$new_tags${new_tags:+$NL}$fetched_tag
  done <"$dir/fetched"
}

# is_branch TEXT: the rules of `git check-ref-format --branch`, without a process, and without names that read as options or refs.
is_branch() {
  case $1 in
    '' | -* | /* | */ | *//* | .* | */.* | *. | *.lock | *.lock/* | *..* | *@\{* | @ | HEAD | refs/*) return 1 ;;
    *[[:cntrl:]]* | *' '* | *'~'* | *'^'* | *:* | *'?'* | *'*'* | *'['* | *\\*) return 1 ;;
  esac
  [ "${#1}" -le 200 ]
}

# is_url TEXT: what git may be given: no remote helper, no option, no secret.
is_url() {
  case $1 in
    '' | -* | *[[:cntrl:]]* | *::*) return 1 ;;
    http://*@* | https://*@*)
      REPLY=${1#*://}
      case ${REPLY%%/*} in *@*) return 1 ;; esac
      ;;
    http://* | https://* | file:///* | /*) ;;
    ssh://* | git://* | git+ssh://*)
      REPLY=${1#*://}
      REPLY=${REPLY%%/*}
      case $REPLY in -* | *:*@* | *@-*) return 1 ;; esac
      ;;
    *://*) return 1 ;;
    *:*) case ${1%%:*} in */* | *@-*) return 1 ;; esac ;;
    *) return 1 ;;
  esac
}
