//go:build linux

// Command netem makes what a virtual board sends late and lossy, by the
// kernel's module sch_netem, until the board has no power any more.
package main

import (
	"flag"
	"fmt"
	"os"

	"dunlin/firmware-tools/vm/guest"
)

func main() {
	card := flag.String("interface", "eth0", "network card")
	delay := flag.Duration("delay", 0, "that each packet waits")
	loss := flag.Float64("loss", 0, "share of packets that do not arrive, 0 to 1")
	flag.Parse()
	if err := guest.Netem(*card, *delay, *loss); err != nil {
		fmt.Fprintln(os.Stderr, "netem:", err)
		os.Exit(1)
	}
}
