package agent

import (
	"errors"
	"fmt"
	"io"

	"dunlin/firmware-tools/files"
	"dunlin/sync/wire"
)

// completions are the scripts that "dunlin-agent completion" prints.
var completions = map[string]string{"bash": files.AgentBash, "zsh": files.AgentZsh, "fish": files.AgentFish}

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
