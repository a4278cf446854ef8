# shellcheck shell=sh
# For the steps that run a repository's own commands, after lib.sh.

# export_env_b64 BASE64: exports KEY=VALUE lines, dies 64 on any other.
export_env_b64() {
  [ -n "$1" ] || return 0
  environment=$(printf '%s' "$1" | base64 -d) || die 64 "ENV_B64 is not base64"
  while [ -n "$environment" ]; do
    line=${environment%%"$NL"*}
    case $environment in *"$NL"*) environment=${environment#*"$NL"} ;; *) environment= ;; esac
    case ${line%%=*} in
      '' | [0-9]* | *[!A-Za-z0-9_]*) [ -z "$line" ] || die 64 "ENV_B64 has a line that is no KEY=VALUE" ;;
      *) export "${line%%=*}=${line#*=}" ;;
    esac
  done
}

# unask_git: git asks nothing, and a repository's own commands may lock what they like.
unask_git() {
  unset GIT_OPTIONAL_LOCKS GIT_ASKPASS SSH_ASKPASS GCM_INTERACTIVE
  export GIT_TERMINAL_PROMPT=0 DEBIAN_FRONTEND=noninteractive
}
