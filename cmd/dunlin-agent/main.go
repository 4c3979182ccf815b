// Command dunlin-agent runs on a device: it answers pictures with a model,
// adds facts, and keeps every result until the hub has it. See package
// dunlin/agent, and dunlin-agent help.
package main

import (
	"os"

	"dunlin/agent"
)

func main() { os.Exit(agent.Main(os.Args[1:], os.Stdout, os.Stderr)) }
