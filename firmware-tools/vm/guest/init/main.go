//go:build linux

// Command init is process 1 of a virtual board, which dunlin's tests and
// "dunlin image vm" build for the board's processor and pack with a kernel.
package main

import "dunlin/firmware-tools/vm/guest"

func main() { guest.Main() }
