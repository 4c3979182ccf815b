package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	why "dunlin/explain"
)

// mostHeat bounds what the demo reads of a heat map, in bytes.
const mostHeat = 4 << 20

// explainOne has an agent show which part of a picture its answer rests on,
// and gives the heat map to the hub, beside the answer: the hub cannot ask for
// one, because an agent's HTTP is for its own machine only. The demo is on it.
func (d *demo) explainOne(ctx context.Context, a *demoAgent, p droppedPicture, row resultRow) error {
	heat, class, err := d.askWhy(ctx, a, p)
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	top := row.Result.Labels[0]
	if class != strconv.Itoa(top.Index) {
		return fmt.Errorf("explain: the answer was class %d, %s, and class %s is explained", top.Index, top.Label, class)
	}
	file := d.path("heat.png")
	if err := os.WriteFile(file, heat, 0o644); err != nil {
		return err
	}
	about := url.Values{"method": {why.CAM}, "label": {top.Label}}
	at := "/v1/results/" + row.ID + "/explanation"
	if err := d.hub.api.do(ctx, "PUT", at+"?"+about.Encode(), bytes.NewReader(heat), nil); err != nil {
		return err
	}
	d.say("why: %s shows which part of %s speaks for %q, by the model that runs; the page shows it beside the answer, and it is in %s", a.name, p.name, top.Label, file)
	d.proved("explained", "a heat map by the small model on %s, beside its answer on the page", a.name)
	return nil
}

// askWhy asks an agent for the heat map of a picture's first label.
func (d *demo) askWhy(ctx context.Context, a *demoAgent, p droppedPicture) (heat []byte, class string, err error) {
	picture, err := os.ReadFile(d.path("garments", "samples", p.name))
	if err != nil {
		return nil, "", err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", a.http+"/v1/explain", bytes.NewReader(picture))
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if heat, err = io.ReadAll(io.LimitReader(resp.Body, mostHeat)); err != nil {
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("%s: %.300s", resp.Status, heat)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(heat)); err != nil {
		return nil, "", err
	}
	if method := resp.Header.Get("Dunlin-Method"); method != why.CAM {
		return nil, "", fmt.Errorf("by %q, this network has a class activation map", method)
	}
	if class = resp.Header.Get("Dunlin-Class"); class == "" {
		return nil, "", errors.New("the agent does not say of which class")
	}
	return heat, class, nil
}
