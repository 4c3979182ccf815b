package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/sync/wire"
)

// demoHub is the hub's process and a client of its API.
type demoHub struct {
	dir, http string
	proc      *process
	api       *client
}

// demoAgent is an agent's process.
type demoAgent struct {
	name, dir, inbox, http string
	proc                   *process
}

// startFleet starts the hub, enrols two devices and starts their agents.
func (d *demo) startFleet(ctx context.Context) error {
	if err := d.signDemo(); err != nil {
		return err
	}
	dunlin, agent, err := programs()
	if err != nil {
		return err
	}
	httpAddr, err := freeAddress()
	if err != nil {
		return err
	}
	mqttAddr, err := freeAddress()
	if err != nil {
		return err
	}
	h := &demoHub{dir: d.path("hub"), http: "http://" + httpAddr}
	h.proc, err = startProcess(d.path("hub.log"), dunlin, "hub", "--dir", h.dir, "--http", httpAddr, "--mqtt", mqttAddr,
		"--release-key", d.path("release.pem.pub"))
	if err != nil {
		return err
	}
	d.hub = h
	if err := d.hubUp(ctx); err != nil {
		return err
	}
	d.say("hub: %s, MQTT %s, everything it knows is in %s", h.http, mqttAddr, h.dir)
	for _, name := range []string{"shelf-1", "shelf-2"} {
		a, err := d.startAgent(ctx, agent, name)
		if err != nil {
			return err
		}
		d.agents = append(d.agents, a)
	}
	return waitFor(ctx, time.Minute, "both agents to connect", func() error {
		list, err := d.devices(ctx)
		if err != nil {
			return err
		}
		for _, v := range list {
			if !v.Online || v.Hello == nil {
				return fmt.Errorf("%s is %w connected", v.Name, errNotYet)
			}
			d.once(v.Name+" connected", func() {
				d.say("%s: connected, %s, kernels %s", v.Name, v.Hello.OS, v.Hello.Kernels)
			})
		}
		return nil
	})
}

// hubUp waits until the hub answers and reads its token.
func (d *demo) hubUp(ctx context.Context) error {
	return waitFor(ctx, time.Minute, "the hub to answer", func() error {
		if err := d.hub.proc.ended(); err != nil {
			return err
		}
		f := hubFlags{url: d.hub.http, tokenFile: filepath.Join(d.hub.dir, "admin.token")}
		api, err := f.client()
		if err != nil {
			return err
		}
		d.hub.api = api
		return api.do(ctx, "GET", "/livez", nil, nil)
	})
}

func (d *demo) startAgent(ctx context.Context, program, name string) (*demoAgent, error) {
	var enrolled struct{ Token string }
	if err := d.hub.api.do(ctx, "POST", "/v1/devices", map[string]string{"tenant": "demo", "name": name}, &enrolled); err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	a := &demoAgent{name: name, dir: d.path(name), inbox: d.path(name, "inbox"), http: "http://" + addr}
	if err := os.MkdirAll(a.inbox, 0o755); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`state_dir = "state"
metrics_every_s = 2
[hub]
token = %q
[folder]
dir = "inbox"
poll_ms = 200
[http]
listen = %q
`, enrolled.Token, addr)
	file := filepath.Join(a.dir, "agent.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	a.proc, err = startProcess(d.path(name+".log"), program, "run", "-config", file)
	return a, err
}

// devices asks the hub for the fleet.
func (d *demo) devices(ctx context.Context) ([]deviceRow, error) {
	var out struct {
		Devices []deviceRow `json:"devices"`
	}
	err := d.hub.api.do(ctx, "GET", "/v1/devices", nil, &out)
	return out.Devices, err
}

// once runs f the first time it is asked to for key.
func (d *demo) once(key string, f func()) {
	if !d.said[key] {
		d.said[key] = true
		f()
	}
}

// rollOut pushes the small model and follows its rollout.
func (d *demo) rollOut(ctx context.Context) error {
	l, sig, err := signedPack(d.small)
	if err != nil {
		return err
	}
	sent, err := pushPack(ctx, d.hub.api, l, d.small.digest, sig, func(int, int) {})
	if err != nil {
		return err
	}
	d.say("registered: garments version %d, %s sent, signed by key %s", d.small.version, bytesText(sent), d.key.Public().ID())
	var r rolloutRow
	plan := map[string]any{
		"model": "garments", "version": d.small.version, "canary": []string{"demo/shelf-1"}, "trial": wire.TrialRules{Seconds: 2, MaxMillis: 200},
	}
	if err := d.hub.api.do(ctx, "POST", "/v1/rollouts", plan, &r); err != nil {
		return err
	}
	begin := time.Now()
	err = waitFor(ctx, time.Minute, "the rollout to end", func() error {
		if err := d.hub.api.do(ctx, "GET", "/v1/rollouts/"+r.ID, nil, &r); err != nil {
			return err
		}
		for _, v := range r.Devices {
			d.once(r.ID+v.Name+v.Stage, func() { d.say("%-6s %s: %s", r.Phase, strings.TrimPrefix(v.Name, "demo/"), v.Stage) })
		}
		switch r.Phase {
		case "done":
			return nil
		case "rolled_back", "paused":
			return final{fmt.Errorf("the rollout is %s: %+v", r.Phase, r.Devices)}
		}
		return fmt.Errorf("phase %s: %w", r.Phase, errNotYet)
	})
	if err != nil {
		return err
	}
	took := time.Since(begin).Round(100 * time.Millisecond)
	d.say("both run %s: signature, digests and exam checked by each, trial passed (%v)", short(d.small.digest), took)
	d.proved("rollout", "canary, then all, in %v; exam passed on both", took)
	return nil
}

// rolloutRow is what the demo reads of a rollout.
type rolloutRow struct {
	ID      string `json:"id"`
	Phase   string `json:"phase"`
	Devices []struct {
		Name  string `json:"name"`
		Stage string `json:"stage"`
		Error string `json:"error"`
	} `json:"devices"`
}

// syncFacts pushes the example's facts and waits until both agents have them.
func (d *demo) syncFacts(ctx context.Context) error {
	out, err := pushFacts(ctx, d.hub.api, "garments", d.path("garments", "garments.nt"))
	if err != nil {
		return err
	}
	err = waitFor(ctx, time.Minute, "the facts to reach both agents", func() error {
		list, err := d.devices(ctx)
		if err != nil {
			return err
		}
		for _, v := range list {
			if v.Reported == nil || v.Reported.Facts == nil {
				return fmt.Errorf("%s has no facts: %w", v.Name, errNotYet)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.say("graph garments version %v: signed by the hub, checked and indexed by both agents", out["version"])
	d.proved("facts", "version %v of the graph on both agents", out["version"])
	return nil
}

// signedPack opens a pack and its signature.
func signedPack(p demoPack) (*oci.Layout, sign.Signature, error) {
	l, err := oci.Open(p.dir)
	if err != nil {
		return nil, sign.Signature{}, err
	}
	sig, ok := pack.Signature(l, p.digest)
	if !ok {
		return nil, sig, fmt.Errorf("pack %s is not signed", p.dir)
	}
	return l, sig, nil
}

// short is a digest as people compare it.
func short(digest string) string {
	return strings.TrimPrefix(digest, "sha256:")[:12]
}

// status asks an agent's probe, into out.
func (a *demoAgent) get(ctx context.Context, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, "GET", a.http+path, nil)
	if err != nil {
		return err
	}
	return decodeAnswer(req, out)
}

// infer sends a picture to the agent's probe.
func (a *demoAgent) infer(ctx context.Context, picture []byte) (wire.Result, error) {
	var r wire.Result
	req, err := http.NewRequestWithContext(ctx, "POST", a.http+"/v1/infer", bytes.NewReader(picture))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "image/png")
	return r, decodeAnswer(req, &r)
}

func decodeAnswer(req *http.Request, out any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
		return errors.Join(fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, text), err)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
