package cli

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"

	why "dunlin/explain"
)

// mostHeat bounds what the demo reads of a heat map, in bytes.
const mostHeat = 4 << 20

// explainOne has an agent show which part of a picture its answer rests on, and
// keeps the heat map beside the demo's other files: the hub cannot ask for one,
// because an agent's HTTP is for its own machine only.
func (d *demo) explainOne(ctx context.Context, a *demoAgent, p droppedPicture) error {
	picture, err := os.ReadFile(d.path("garments", "samples", p.name))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", a.http+"/v1/explain", bytes.NewReader(picture))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	heat, err := io.ReadAll(io.LimitReader(resp.Body, mostHeat))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("explain: %s: %.300s", resp.Status, heat)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(heat)); err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	if method := resp.Header.Get("Dunlin-Method"); method != why.CAM {
		return fmt.Errorf("explain: by %q, this network has a class activation map", method)
	}
	file := d.path("heat.png")
	if err := os.WriteFile(file, heat, 0o644); err != nil {
		return err
	}
	d.say("why: %s shows which part of %s its answer rests on, by the int8 model that runs: %s", a.name, p.name, file)
	d.proved("explained", "a heat map by the int8 model on %s", a.name)
	return nil
}
