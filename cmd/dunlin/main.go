// Command dunlin is everything a person runs: the demo, the hub, and the tools
// for models, facts and the fleet. It is a door to package internal/cli.
package main

import (
	"os"

	"dunlin/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
