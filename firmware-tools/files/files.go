// Package files holds what dunlin installs on a machine beside its two
// programs, as the files that they become: units, the configuration to start
// with, maintainer scripts, man pages, completions. Agent and Hub are the
// folders; the strings are what the agent needs to install itself.
//
// A program links what it names only: the agent uses the strings, and carries
// nothing of the folders.
package files

import (
	"embed"
	"io/fs"
)

//go:embed agent hub copyright
var tree embed.FS

// Of the agent, as in the folder agent.
var (
	//go:embed agent/dunlin-agent.service
	AgentUnit string
	//go:embed agent/setup
	AgentSetup string // shell: user, folder, drop-in with this board's groups
	//go:embed agent/agent.toml
	AgentConfig string
	//go:embed agent/completion.bash
	AgentBash string
	//go:embed agent/completion.zsh
	AgentZsh string
	//go:embed agent/completion.fish
	AgentFish string
)

// Read returns a file, as "agent/setup". One that does not exist is a mistake
// in the program: it panics.
func Read(name string) []byte {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		panic(err)
	}
	return text
}
