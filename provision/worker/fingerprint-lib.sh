# shellcheck shell=sh
# The fingerprint of a clone: it changes whenever anything changes that `save` would save. After lib.sh and git-lib.sh.
#
# It is a hash over: every ref but the remote-tracking ones; HEAD and a merge, rebase, pick or bisect in progress; the list of
# stashes; `git status` (staged content by object id); inode, size, mode, mtime and ctime (ns) of every changed or untracked file that
# is not ignored (ctime cannot be set back, so an edit that keeps size and mtime is seen); and the same for every other work tree,
# submodule and nested repository. Content is not read. Remote-tracking refs are left out, so a fetch does not change it.
# shellcheck disable=SC2034

# repo_fingerprint DIR: fails when any part cannot be read.
repo_fingerprint() {
  fingerprint_text=$(fingerprint_repo "$1") || return 1
  REPLY=$(printf '%s' "$fingerprint_text" | sha256sum) || return 1
  REPLY=f1-${REPLY%% *}
}

# fingerprint_repo DIR: the text that is hashed.
fingerprint_repo() (
  cd -- "$1" || exit 1
  # One filter for both: refs of our own, entries whose changes git would not show, submodules.
  special=$({
    quiet_git for-each-ref --format='%(if:equals=refs/remotes)%(refname:rstrip=-2)%(then)%(else)ref %(refname) %(objectname)%(end)'
    quiet_git ls-files -s -v
  } | LC_ALL=C grep -E '^ref |^[a-z] |^S |^. 160000 ')
  # Tags that a fetch brought a moment ago were not there when the fingerprint was taken.
  [ -z "${new_tags-}" ] || special=$(printf '%s\n' "$special" | LC_ALL=C grep -vF -e "$new_tags")
  printf '%s\n' "$special"
  git_dir || exit 1
  git_dir=$REPLY
  [ ! -s "$git_dir/logs/refs/stash" ] || cat "$git_dir/logs/refs/stash" || exit 1
  fingerprint_tree . "$special" || exit 1
  for worktree in "$git_dir"/worktrees/*/gitdir; do
    [ -e "$worktree" ] || continue
    IFS= read -r worktree <"$worktree" || exit 1
    worktree=${worktree%/.git}
    printf 'worktree %s\n' "$worktree"
    # Its folder may have been removed; nothing is there to change then.
    [ ! -e "$worktree/.git" ] || fingerprint_tree "$worktree" "" || exit 1
  done
)

# fingerprint_tree DIR SPECIAL: one work tree; SPECIAL is the filtered list of its index, when it is known.
fingerprint_tree() (
  cd -- "$1" || exit 1
  status=$(quiet_git status --porcelain=v2 --branch --no-ahead-behind --untracked-files=all --no-renames --ignore-submodules=dirty) || exit 1
  # Without what it says of the upstream branch, which a fetch changes.
  case $status in
    *"$NL# branch.upstream "*)
      fingerprint_head=${status%%"$NL# branch.upstream "*}
      fingerprint_rest=${status#*"$NL# branch.upstream "}
      fingerprint_rest=$fingerprint_rest$NL
      fingerprint_rest=${fingerprint_rest#*"$NL"}
      case $fingerprint_rest in '# branch.ab '*) fingerprint_rest=${fingerprint_rest#*"$NL"} ;; esac
      status=$fingerprint_head$NL${fingerprint_rest%"$NL"}
      ;;
  esac
  printf '%s\n' "$status"
  git_dir || exit 1
  cd -- "$REPLY" 2>/dev/null || exit 1
  for file in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD REBASE_HEAD BISECT_LOG; do
    [ ! -e "$file" ] || { printf '%s\n' "$file" && cat -- "$file"; } || exit 1
  done
  for folder in rebase-merge rebase-apply sequencer; do
    [ ! -d "$folder" ] || { printf '%s\n' "$folder"/* && cat -- "$folder"/*; } 2>/dev/null
  done
  cd - >/dev/null || exit 1
  special=$2
  [ -n "$special" ] || special=$(quiet_git ls-files -s -v | LC_ALL=C grep -E '^[a-z] |^S |^. 160000 ')
  case $status in
    *"$NL"[12u\?]*)
      quiet_git ls-files -z -m -o --exclude-standard |
        xargs -0 -r stat -c '%i %s %f %y %z %n' -- 2>/dev/null
      ;;
  esac
  case $NL$special in
    *"$NL"[a-zS]' '*)
      # Files that git was told not to look at.
      # shellcheck disable=SC2016 # for the inner shell
      quiet_git ls-files -z -v | xargs -0 -r sh -c 'for entry do
        case $entry in [a-zS]" "*) stat -c "%i %s %f %y %z %n" -- "${entry#? }"; esac
      done' sh 2>/dev/null
      ;;
  esac
  case "$status$NL$special$NL" in
    */"$NL"* | */\""$NL"* | *' 160000 '*) ;;
    *) exit 0 ;;
  esac
  nested_repos "$status" "$special" | while IFS= read -r nested; do
    printf 'nested %s\n' "$nested"
    fingerprint_repo "./$nested" || exit 1
  done
)

# nested_repos STATUS SPECIAL: the paths of nested repositories and of submodules that are checked out, a line each.
nested_repos() {
  printf '%s\n%s\n' "$1" "$2" | while IFS= read -r nested; do
    case $nested in
      '? '*/) nested=${nested#??} && nested=${nested%/} ;;
      '? "'*/\") nested=${nested#??} ;;
      ?' 160000 '*) nested=${nested#*"$TAB"} ;;
      *) continue ;;
    esac
    case $nested in
      \"*) unquote "$nested" && nested=${REPLY%/} ;;
    esac
    [ ! -e "$nested/.git" ] || printf '%s\n' "$nested"
  done
}

# unquote TEXT: the path in git's C-style quotes. A newline cannot be in a list of lines, so such a nested repository stays
# unknown to `[ -e ]`; `save` reports it as unsaved.
unquote() {
  REPLY=${1#\"}
  REPLY=$(printf '%b' "$(printf '%s' "${REPLY%\"}" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g; s/\\"/"/g')")
}
