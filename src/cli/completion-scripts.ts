/*
 * Completion scripts. Each asks the program itself what may come next, so that they know every command of the program that is installed, and never
 * hold a name of a worker or run.
 */

export const bashScript = (): string => `# bash completion for orchestrator
_orchestrator() {
  local IFS=$'\\n'
  local -a words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  # The part of a word before '=' or ':' is a word of its own to bash.
  COMPREPLY=($("\${COMP_WORDS[0]}" complete-words -- "\${words[@]}" 2>/dev/null))
  if [ "\${#COMPREPLY[@]}" -eq 0 ]; then
    case "\${COMP_WORDS[COMP_CWORD-1]}" in
      --file) COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")) ;;
    esac
  fi
}
complete -F _orchestrator orchestrator
`;

export const zshScript = (): string => `#compdef orchestrator
_orchestrator() {
  local -a found
  found=("\${(@f)$("\${words[1]}" complete-words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=("\${(@)found:#}")
  if (( \${#found} )); then
    compadd -a found
  elif [[ "\${words[CURRENT-1]}" == --file ]]; then
    _files
  fi
}
if [ "\${funcstack[1]}" = "_orchestrator" ]; then
  _orchestrator "$@"
else
  compdef _orchestrator orchestrator
fi
`;

export const fishScript = (): string => `# fish completion for orchestrator
function __orchestrator_complete
    set -l words (commandline -opc)
    set -l unfinished (commandline -ct)
    command $words[1] complete-words -- $words[2..-1] $unfinished 2>/dev/null
end
complete -c orchestrator -f -a '(__orchestrator_complete)'
complete -c orchestrator -l file -r -F
`;
