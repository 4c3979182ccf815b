package agent

import (
	"errors"
	"fmt"
	"io"

	"dunlin/sync/wire"
)

// completions are the scripts that "dunlin-agent completion" prints.
var completions = map[string]string{
	"bash": `_dunlin_agent() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  case $prev in
    -config|-socket) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "run check status sources version completion help" -- "$cur"))
  else
    COMPREPLY=($(compgen -W "-config -example -socket -json -ask" -- "$cur"))
  fi
}
complete -F _dunlin_agent dunlin-agent
`,
	"zsh": `#compdef dunlin-agent
_arguments '1:command:(run check status sources version completion help)' \
  '-config[configuration]:file:_files' '-example[print an example]' \
  '-socket[socket of the agent]:file:_files' '-json[the whole document]' \
  '-ask[ask the chips on an I2C bus]:bus:_files -W /dev -g i2c-*' \
  '2:shell:(bash zsh fish)'
`,
	"fish": `complete -c dunlin-agent -f
complete -c dunlin-agent -n __fish_use_subcommand -a "run check status sources version completion help"
complete -c dunlin-agent -n "__fish_seen_subcommand_from completion" -a "bash zsh fish"
complete -c dunlin-agent -o config -r -F -d configuration
complete -c dunlin-agent -n "__fish_seen_subcommand_from check" -o example -d "print an example"
complete -c dunlin-agent -n "__fish_seen_subcommand_from status" -o socket -r -F
complete -c dunlin-agent -n "__fish_seen_subcommand_from status sources" -o json -d "the whole document"
complete -c dunlin-agent -n "__fish_seen_subcommand_from sources" -o ask -x -a "(ls /dev/i2c-* 2>/dev/null)" -d "ask the chips on an I2C bus"
`,
}

func completionCommand(args []string, stdout, _ io.Writer) error {
	if len(args) != 1 || completions[args[0]] == "" {
		return usageError{errors.New("completion: want bash, zsh or fish")}
	}
	_, err := fmt.Fprint(stdout, completions[args[0]])
	return err
}

// tokenHint finds the advice that comes with a bad token.
func tokenHint(err error) string {
	if e, ok := errors.AsType[*wire.TokenError](err); ok {
		return e.Hint
	}
	return ""
}
