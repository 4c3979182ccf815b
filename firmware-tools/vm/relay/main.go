// Command relay joins standard input and output with a TCP address. QEMU
// starts one for each connection that a virtual board makes to its hub.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	c, err := net.Dial("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.TCPConn).CloseWrite() // the board may still be read to
	}()
	_, _ = io.Copy(os.Stdout, c)
}
