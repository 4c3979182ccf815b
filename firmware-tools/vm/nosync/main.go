//go:build linux

// Command nosync runs a program for which every sync of a file succeeds and
// does nothing, as on a card that lies or in a program that forgets to: the
// control of the tests that cut a virtual board's power.
package main

import (
	"fmt"
	"os"

	"dunlin/firmware-tools/vm/guest"
)

func main() {
	err := guest.NoSync(os.Args[1:]) // returns only where it cannot
	fmt.Fprintln(os.Stderr, "nosync:", err)
	os.Exit(1)
}
