package agent

import (
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"dunlin/sync/wire"
)

// counters is what /metrics shows beside the gauges.
type counters struct {
	set        *metrics.Set
	inference  *metrics.Histogram
	lost       *metrics.Counter // results that the outbox did not take
	factErrors *metrics.Counter
	desired    *metrics.Counter // documents of the hub that were not its own, or not for us
	commands   *metrics.Counter
}

func newCounters() *counters {
	s := metrics.NewSet()
	return &counters{
		set: s, inference: s.NewHistogram("dunlin_inference_seconds"),
		lost:       s.NewCounter("dunlin_results_not_kept_total"),
		factErrors: s.NewCounter("dunlin_facts_errors_total"),
		desired:    s.NewCounter("dunlin_messages_refused_total"),
		commands:   s.NewCounter("dunlin_commands_total"),
	}
}

func (c *counters) result(r wire.Result) {
	from, _, _ := strings.Cut(r.Source, ":")
	outcome := "ok"
	if r.Error != "" {
		outcome = "error"
	}
	c.set.GetOrCreateCounter(`dunlin_results_total{source="` + from + `",outcome="` + outcome + `"}`).Inc()
}
