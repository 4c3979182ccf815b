package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"dunlin/model/samples"
	"dunlin/sync/wire"
)

// dropped is a picture that was put into an agent's folder.
type droppedPicture struct{ name, digest string }

// drop puts n pictures that nobody has seen yet into a's folder.
func (d *demo) drop(a *demoAgent, n int) ([]droppedPicture, error) {
	if d.pictures.set == nil {
		dir := d.path("garments", "samples")
		set, err := samples.Open(dir, samples.Options{})
		if err != nil {
			return nil, err
		}
		d.pictures = pictureBox{set: set, dir: dir}
	}
	names, files, err := d.pictures.take(n)
	if err != nil {
		return nil, err
	}
	out := make([]droppedPicture, n)
	for i, data := range files {
		sum := sha256.Sum256(data)
		out[i] = droppedPicture{names[i], "sha256:" + hex.EncodeToString(sum[:])}
		if err := os.WriteFile(filepath.Join(a.inbox, names[i]), data, 0o644); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// resultRow is one result at the hub.
type resultRow struct {
	ID     string      `json:"id"`
	Device string      `json:"device"`
	Seq    int64       `json:"seq"`
	Result wire.Result `json:"result"`
}

// results returns every result of device that the hub holds.
func (d *demo) results(ctx context.Context, device string) ([]resultRow, error) {
	var all []resultRow
	after := ""
	for {
		var page struct {
			Rows []resultRow `json:"rows"`
			Next string      `json:"next"`
		}
		path := "/v1/results?limit=500&device=" + url.QueryEscape(device)
		if after != "" {
			path += "&after=" + after
		}
		if err := d.hub.api.do(ctx, "GET", path, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Rows...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// exactlyOnce waits until each of the pictures has a row at the hub, and
// fails where one has two.
func (d *demo) exactlyOnce(ctx context.Context, device string, pictures []droppedPicture) ([]resultRow, error) {
	var rows []resultRow
	err := waitFor(ctx, time.Minute, fmt.Sprintf("%d results of %s at the hub", len(pictures), device), func() error {
		all, err := d.results(ctx, device)
		if err != nil {
			return err
		}
		byInput := map[string][]resultRow{}
		for _, r := range all {
			byInput[r.Result.Input] = append(byInput[r.Result.Input], r)
		}
		rows = rows[:0]
		missing := 0
		for _, p := range pictures {
			switch found := byInput[p.digest]; len(found) {
			case 0:
				missing++
			case 1:
				rows = append(rows, found[0])
			default:
				return final{fmt.Errorf("picture %s stands %d times", p.name, len(found))}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d are missing: %w", missing, errNotYet)
		}
		return nil
	})
	return rows, err
}

// dropPictures shows what an answer looks like.
func (d *demo) dropPictures(ctx context.Context) error {
	var shown droppedPicture
	var answer resultRow
	for _, a := range d.agents {
		pictures, err := d.drop(a, 20)
		if err != nil {
			return err
		}
		rows, err := d.exactlyOnce(ctx, "demo/"+a.name, pictures)
		if err != nil {
			return err
		}
		if shown.name == "" {
			shown, answer = pictures[0], rows[0]
		}
		withFacts := 0
		for _, r := range rows {
			if len(r.Result.Facts) > 0 {
				withFacts++
			}
		}
		if withFacts != len(rows) {
			return fmt.Errorf("%s: %d of %d results carry facts", a.name, withFacts, len(rows))
		}
		d.say("%s: %d pictures in its folder, %d results at the hub, each with its facts. Two of them:", a.name, len(pictures), len(rows))
		for _, r := range rows[:2] {
			d.sayResult(r.Result)
		}
	}
	d.proved("answers", "40 pictures, 40 results, each with facts and their source")
	return d.explainOne(ctx, d.agents[0], shown, answer)
}

func (d *demo) sayResult(r wire.Result) {
	top := r.Labels[0]
	d.say("   %s %.2f, %.2f ms, %s", top.Label, top.Score, float64(r.Micros)/1000, short(r.Input))
	for i, f := range r.Facts {
		if i == 3 {
			d.say("      … and %d more", len(r.Facts)-i)
			break
		}
		d.say("      %s: %s (%s)", f.Label, f.Object, f.Source)
	}
}

// agentStatus is what the demo reads of an agent's /v1/status.
type agentStatus struct {
	Model  *wire.Running    `json:"model"`
	Outbox wire.OutboxState `json:"outbox"`
}

// unplug kills the hub, has an agent go on, brings the hub back, and compares
// what was seen with what arrived.
func (d *demo) unplug(ctx context.Context) error {
	if err := d.hub.proc.kill(); err != nil {
		return err
	}
	d.say("hub killed (SIGKILL)")
	a := d.agents[0]
	pictures, err := d.drop(a, 30)
	if err != nil {
		return err
	}
	var s agentStatus
	err = waitFor(ctx, time.Minute, "the agent to infer without a hub", func() error {
		if err := a.get(ctx, "/v1/status", &s); err != nil {
			return err
		}
		if n := s.Outbox.Next - s.Outbox.First; n < int64(len(pictures)) {
			return fmt.Errorf("%d records wait: %w", n, errNotYet)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.say("%s: %d pictures seen meanwhile, %d records wait on its disk", a.name, len(pictures), s.Outbox.Next-s.Outbox.First)
	if err := d.hub.proc.start(); err != nil {
		return err
	}
	if err := d.hubUp(ctx); err != nil {
		return err
	}
	d.say("hub is back")
	if _, err := d.exactlyOnce(ctx, "demo/"+a.name, pictures); err != nil {
		return err
	}
	// Once more when nothing is on its way any more: a double would show now.
	err = waitFor(ctx, time.Minute, "the outbox to be empty", func() error {
		err := a.get(ctx, "/v1/status", &s)
		if err == nil && s.Outbox.First != s.Outbox.Next {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := d.exactlyOnce(ctx, "demo/"+a.name, pictures); err != nil {
		return err
	}
	if s.Outbox.Dropped != 0 {
		return fmt.Errorf("%s dropped %d records", a.name, s.Outbox.Dropped)
	}
	d.say("SHA-256 of the %d pictures against the hub's rows: each exactly once, none dropped", len(pictures))
	d.proved("unplugged", "%d results made without the hub: each arrived exactly once, 0 dropped", len(pictures))
	return nil
}

// pageAddress is the page with the token in the fragment, which browsers do
// not send to anybody.
func (d *demo) pageAddress() string { return d.hub.http + "/#token=" + d.hub.api.token }
