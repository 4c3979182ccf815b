package agent

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"
)

// notify tells systemd a state ("READY=1", sd_notify(3)), where it asked for
// that. A message that does not arrive is systemd's to notice.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}

// watchdog keeps systemd's watchdog quiet as long as beat comes back, and with
// nil. It asks three times in the span that systemd allows.
func watchdog(ctx context.Context, beat func() error) {
	usec, err := strconv.Atoi(os.Getenv("WATCHDOG_USEC"))
	if err != nil || usec <= 0 {
		return
	}
	tick := time.NewTicker(time.Duration(usec) * time.Microsecond / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if beat() == nil {
				notify("WATCHDOG=1")
			}
		case <-ctx.Done():
			return
		}
	}
}
