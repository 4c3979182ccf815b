//go:build linux

// Command netem makes what a virtual board sends and gets late and lossy, by
// the kernel's module sch_netem, until the board has no power any more.
package main

import (
	"flag"
	"fmt"
	"os"

	"dunlin/firmware-tools/vm/guest"
)

func main() {
	card := flag.String("interface", "eth0", "network card")
	delay := flag.Duration("delay", 0, "that each packet waits, each way")
	loss := flag.Float64("loss", 0, "share of packets that do not arrive, each way, 0 to 1")
	count := flag.Bool("count", false, "change nothing, and print what passed and what was lost")
	flag.Parse()
	do := func() error { return guest.Netem(*card, *delay, *loss) }
	if *count {
		do = func() error { return guest.NetemCounts(os.Stdout, *card) }
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "netem:", err)
		os.Exit(1)
	}
}
