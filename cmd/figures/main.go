// Command figures measures the tables of docs/PERFORMANCE.md and prints them
// as Markdown: make bench and its like run it.
package main

import (
	"os"

	"dunlin/internal/figures"
)

func main() { os.Exit(figures.Main(os.Args[1:], os.Stdout, os.Stderr)) }
