_dunlin_agent() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  case $prev in
    -config|-socket) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "run check status sources install version completion help" -- "$cur"))
  else
    COMPREPLY=($(compgen -W "-config -example -socket -json -ask -token -dry-run -uninstall -purge" -- "$cur"))
  fi
}
complete -F _dunlin_agent dunlin-agent
