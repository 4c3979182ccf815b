package hub

import (
	"context"
	"encoding/json"
	"time"

	"dunlin/hub/api"
	"dunlin/hub/results"
	"dunlin/hub/rollout"
	"dunlin/sync/wire"
)

// maxGroup bounds the batches of one commit.
const maxGroup = 64

// storeResults stores batches until the channel is closed. All that wait are
// committed together, so that a busy hub does not pay a disk flush for each.
func (h *Hub) storeResults() {
	for first := range h.batches {
		group := []incoming{first}
		for len(group) < maxGroup {
			select {
			case next, ok := <-h.batches:
				if !ok {
					h.storeGroup(group)
					return
				}
				group = append(group, next)
				continue
			default:
			}
			break
		}
		h.storeGroup(group)
	}
}

// storeGroup commits a group and acknowledges it. Where it cannot be stored,
// nothing is acknowledged, and the devices send it again.
func (h *Hub) storeGroup(group []incoming) {
	batches := make([]results.Batch, 0, len(group))
	for _, in := range group {
		b, records, err := wire.DecodeBatch(in.payload)
		if err != nil {
			h.malformed(wire.Topic(in.device, wire.UpResult), err)
			continue
		}
		batches = append(batches, results.Batch{Device: in.device, Epoch: b.Epoch, Records: records})
	}
	if len(batches) == 0 {
		return
	}
	added, err := h.results.Add(batches...)
	if err != nil {
		h.counts.notStored.Add(int64(len(batches)))
		h.log.Error("results not stored", "error", err)
		return
	}
	h.count(added)
	h.o.BeforeAck()
	for _, m := range added.Marks {
		h.sendAck(ack{m.Device, m.Epoch, m.Upto})
	}
	h.stored(added)
}

func (h *Hub) sendAck(a ack) {
	m, err := ackMessage(a)
	if err == nil {
		// It must go out also when the hub is stopping.
		err = h.publish(context.Background(), m)
	}
	if err != nil {
		h.log.Debug("acknowledgement not sent", "device", a.device.String(), "error", err)
	}
}

// count counts what was stored. It comes before the acknowledgement: who sees
// that a device has nothing left to send finds all of it in the metrics.
func (h *Hub) count(added results.Added) {
	h.counts.duplicates.Add(int64(added.Duplicates))
	h.counts.early.Add(int64(added.Early))
	for _, r := range added.Rows {
		if r.Kind == wire.RecordResult {
			h.counts.stored.Add(1)
			h.counts.delay.Update(time.Since(time.Unix(0, int64(r.ID))).Seconds())
		}
	}
}

// stored tells the page and the rollouts what is new.
func (h *Hub) stored(added results.Added) {
	watched := h.events.Watched()
	answered := map[wire.Device]bool{}
	for _, r := range added.Rows {
		switch r.Kind {
		case wire.RecordResult:
			answered[r.Device] = true
			if watched {
				h.events.Publish(api.EventResult, api.NewResultRow(r))
			}
		case wire.RecordReport:
			var rep wire.Report
			if json.Unmarshal(r.Body, &rep) != nil {
				continue
			}
			h.events.Publish(api.EventReport, map[string]any{"device": r.Device.String(), "report": rep})
			h.mu.Lock()
			if d := h.state.devices[r.Device]; d != nil {
				h.report(d, rep)
			}
			h.mu.Unlock()
		}
	}
	for id := range answered {
		h.judgeFigures(id)
	}
}

// judgeFigures gives a device's figures to the rollouts that it is part of.
func (h *Hub) judgeFigures(id wire.Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.inRollout(id.String()) {
		return
	}
	_, models, err := h.results.Device(id)
	if err != nil {
		h.log.Error("figures not read", "device", id.String(), "error", err)
		return
	}
	for digest, f := range models {
		h.rolloutEvent(figuresEvent(id, digest, f))
	}
}

func figuresEvent(id wire.Device, digest string, f results.Figures) rollout.Event {
	return rollout.Event{Kind: rollout.Results, Device: id.String(), Digest: digest, Figures: rollout.Figures(f)}
}
