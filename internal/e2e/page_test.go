package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dunlin/sync/wire"
)

var screenshot = flag.String("screenshot", "", "where TestPage leaves a picture of the page, after two minutes of answers")

// TestPage opens the page in Chromium on a real hub with two agents, and sees
// a rollout, live answers with their facts, and the hub going and coming back.
// hub/page has the tests of the page itself.
func TestPage(t *testing.T) {
	ctx := browser(t)
	e, f := theExample(t), startFleet(t)
	pack := filepath.Join(f.dir, "pack")
	data := filepath.Join(e.dir, "samples")
	if *screenshot != "" {
		data = "/usr/share/datasets/fashion-mnist" // which is enough to certify something
	}
	dunlin(t, "model", "compress", filepath.Join(e.dir, "garments.onnx"), "--data", data, "--uncertified", "--seconds", "0.02",
		"--calibrate", filepath.Join(e.dir, "calibration"), "--samples", "32", "--eval", data, "--version", "3", "-o", pack)
	dunlin(t, "model", "sign", pack, "--key", e.key)
	f.push(pack)
	agents := []*agent{f.startAgent("shelf-1", ""), f.startAgent("shelf-2", "")}

	until := func(what, expression string) {
		t.Helper()
		_, err := chromedp.Run(ctx, chromedp.Poll[bool]("(() => { try { return Boolean("+expression+") } catch { return false } })()",
			chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(60*time.Second)))
		if err != nil {
			text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
			t.Fatalf("%s: %v; the page:\n%s", what, err, text)
		}
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(f.http+"/#token="+f.token)); err != nil {
		t.Fatal(err)
	}
	until("both devices are there, online", `document.querySelectorAll("#fleet tr.on").length === 2`)
	until("the model is there, with its accuracy", `document.getElementById("models").textContent.includes("garments@3") && document.getElementById("models").textContent.includes(" % → ")`)

	until("with its front", `document.querySelector("#models .front img").naturalWidth > 0`)

	f.must("POST", "/v1/rollouts", map[string]any{"model": "garments", "version": 3, "canary": 1, "trial": map[string]int{"seconds": 1}}, nil)
	until("the rollout ends on both", `document.querySelector("#rollouts .chip").textContent === "done" && document.querySelectorAll('#fleet [data-is="active"]').length === 2`)
	dunlin(t, "facts", "push", filepath.Join(e.dir, "garments.nt"), "--graph", "garments", "--hub", f.http, "--token", f.token)
	until("both have the facts", `[...document.querySelectorAll("#fleet td.facts")].every((c) => c.textContent === "garments@1")`)

	count, pause := 10, time.Millisecond
	if *screenshot != "" {
		count, pause = 240, 500*time.Millisecond // so that there is something to be drawn
	}
	give(t, e, agents, count, pause)
	until("an answer is there, with its facts", `document.querySelector(".result .label").textContent && document.querySelector(".result .said").textContent`)
	explain(t, f, e, agents[0])
	until("one is explained", `document.querySelector(".result .said .chip")`)
	until("with a picture", `((row) => { row.open = true; return row.querySelector(".why img").naturalWidth > 0 })(document.querySelector(".said .chip, .why").closest("details"))`)
	if *screenshot != "" {
		picture(t, ctx, *screenshot)
	}
	f.hub.kill()
	until("the page says that the hub is gone", `document.getElementById("link").dataset.state === "down" && !document.getElementById("banner").hidden`)
	before, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("[data-key]").dataset.key`))
	if err != nil {
		t.Fatal(err)
	}
	give(t, e, agents, 10, time.Millisecond)
	f.hub.start()
	f.up()
	until("it is live again, with what was answered meanwhile",
		fmt.Sprintf(`document.getElementById("link").dataset.state === "live" && document.querySelector("[data-key]").dataset.key !== %q`, before))
}

// explain gives an agent one more picture, has it explain its answer, and puts
// that beside the answer at the hub.
func explain(t *testing.T, f *fleet, e example, a *agent) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(e.dir, "samples", "t10k-00055.png"))
	if err != nil {
		t.Fatal(err)
	}
	data = withNote(data, 1_000_000)
	put(t, a.inbox, "explained.png", data)
	var page struct {
		Rows []struct {
			ID     string
			Result wire.Result
		}
	}
	wait(t, time.Minute, "the picture's result", func() error {
		err := f.ask("GET", fmt.Sprintf("/v1/results?input=sha256:%x", sha256.Sum256(data)), nil, &page)
		if err == nil && len(page.Rows) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	resp, err := http.Post(a.http+"/v1/explain", "image/png", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	heat, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("explain: %s, %v: %.300s", resp.Status, err, heat)
	}
	about := url.Values{"method": {resp.Header.Get("Dunlin-Method")}, "label": {page.Rows[0].Result.Labels[0].Label}}
	if err := call("PUT", f.http+"/v1/results/"+page.Rows[0].ID+"/explanation?"+about.Encode(), f.token, bytes.NewReader(heat), nil); err != nil {
		t.Fatal(err)
	}
}

var given uint64 // pictures by give; each is another one

// give puts pictures of all kinds into the agents' folders, one each pause.
func give(t *testing.T, e example, agents []*agent, count int, pause time.Duration) {
	t.Helper()
	names, err := fs.Glob(os.DirFS(e.dir), "samples/*.png")
	if err != nil || len(names) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for range count {
		data, err := os.ReadFile(filepath.Join(e.dir, names[given*7%uint64(len(names))]))
		if err != nil {
			t.Fatal(err)
		}
		given++
		a := agents[(given*given/3)%uint64(len(agents))]
		put(t, a.inbox, fmt.Sprintf("p%06d.png", given), withNote(data, given))
		<-tick.C
	}
}

// browser starts a Chromium with an empty profile and returns a tab of it.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no chromium, and CI must have it")
		}
		t.Skip("skipped: no chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-US"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancelAllocator)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(cancelTab)
	return ctx
}

func picture(t *testing.T, ctx context.Context, path string) {
	t.Helper()
	data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
