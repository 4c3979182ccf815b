package cli

import (
	"testing"

	"dunlin/sync/wire"
)

func TestThrottledRow(t *testing.T) {
	for want, throttle := range map[string]*wire.Throttle{
		"online": nil,
		"online, throttled: 82 °C, frames at 1/4, threads: 1, small form": {Level: 3, Frames: 4, Threads: 1, Small: true, TempC: 82.1},
		"online, throttled: frames at 1/2":                                {Level: 1, Frames: 2},
	} {
		d := deviceRow{Tenant: "a", Name: "b", Online: true, Reported: &wire.Reported{Throttle: throttle}}
		if got := d.row()[1]; got != want {
			t.Errorf("state %q, want %q", got, want)
		}
	}
}
