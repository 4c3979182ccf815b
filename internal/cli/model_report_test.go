package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"html"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"dunlin/examples/garments"
	"dunlin/model"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/samples"
	"dunlin/quant"
)

// pictures is where TestReportInBrowser leaves its screenshots; nowhere where
// it is not set.
var pictures = flag.String("pictures", "", "folder for the screenshots")

// TestReportInBrowser opens a report in Chromium, light and dark: all of it is
// there, it asks for nothing outside, and the console is silent.
func TestReportInBrowser(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no chromium, and CI must have it")
		}
		t.Skip("skipped: no chromium")
	}
	dir := t.TempDir()
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	packed, file := filepath.Join(dir, "packed"), filepath.Join(dir, "report.html")
	must(t, "model", "compress", filepath.Join(dir, "garments.onnx"), "--data", filepath.Join(dir, "samples"), "--max-drop", "7%", "--bound", "exact",
		"--seconds", "0.001", "-o", packed)
	must(t, "model", "report", packed, "--data", filepath.Join(dir, "calibration"), "-o", file)

	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 2400))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	defer cancelAllocator()
	ctx, cancelTab := chromedp.NewContext(ctx)
	defer cancelTab()
	var mu sync.Mutex // guards said
	var said []string
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			mu.Lock()
			said = append(said, m.String())
			mu.Unlock()
		}
	}()
	for _, scheme := range []string{"light", "dark"} {
		dark := func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
			features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
			_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
			return v, err
		}
		if err := chromedp.Do(ctx, dark, chromedp.Navigate("file://"+file)); err != nil {
			t.Fatal(err)
		}
		for what, js := range map[string]string{
			"two charts with a chosen point each": `document.querySelectorAll("svg").length === 2 && [...document.querySelectorAll("svg")].every(s => s.getBoundingClientRect().width > 300 && s.querySelectorAll("circle").length >= 3)`,
			"a row for each candidate":            `document.querySelectorAll("tr.chosen").length === 1`,
			"ten pictures":                        `[...document.images].length === 10 && [...document.images].every(i => i.complete && i.naturalWidth === 28)`,
			"layers":                              `document.querySelectorAll(".bar").length > 10`,
			"the theme":                           `getComputedStyle(document.body).backgroundColor === ({light: "rgb(244, 243, 239)", dark: "rgb(20, 25, 28)"})["` + scheme + `"]`,
			"nothing from outside":                `performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length === 0 && document.scripts.length === 0`,
			"no sideways scrolling":               `document.documentElement.scrollWidth <= innerWidth`,
		} {
			ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js))
			if err != nil || !ok {
				t.Errorf("%s: not so: %s; %v", scheme, what, err)
			}
		}
		if *pictures != "" {
			shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(*pictures, "report-"+scheme+".png"), shot, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, text := range said {
		t.Errorf("the console says: %s", text)
	}
}

// TestSeen: what a report shows is the picture that went in, whatever order of
// channels, layout and scale the network wants.
func TestSeen(t *testing.T) {
	dir := t.TempDir()
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	set, err := samples.Open(filepath.Join(dir, "samples"), samples.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.At(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{
		"color = \"gray\"\nscale = 0.00392156862745098\nmean = [0.286]\nstd = [0.353]",
		"color = \"bgr\"\nlayout = \"nhwc\"\nscale = 0.00784313725490196\nmean = [1.0, 1.0, 1.0]",
		"color = \"rgb\"\nscale = 1.0\nmean = [123.7, 116.3, 103.5]\nstd = [58.4, 57.1, 57.4]",
	} {
		spec, err := prep.ParseTOML([]byte("[[input]]\nkind = \"picture\"\nwidth = 28\nheight = 28\n" + in))
		if err != nil {
			t.Fatal(err)
		}
		x, err := model.NewTensor(model.F32, spec.Inputs[0].Shape()...)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Fill(spec.Inputs[0], x); err != nil {
			t.Fatal(err)
		}
		seen, err := seeInput(spec.Inputs[0], s.Name, x)
		if err != nil {
			t.Fatal(err)
		}
		data, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(seen.Picture), "data:image/png;base64,"))
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for y := range 28 {
			for px := range 28 {
				r, g, b, _ := img.At(px, y).RGBA()
				wr, wg, wb, _ := s.Picture.At(px, y).RGBA()
				if r>>8 != wr>>8 || g>>8 != wg>>8 || b>>8 != wb>>8 {
					t.Fatalf("%s: pixel %d %d is %d %d %d, was %d %d %d", in, px, y, r>>8, g>>8, b>>8, wr>>8, wg>>8, wb>>8)
				}
			}
		}
		if words := strings.Join(prepWords(spec.Inputs[0]), " "); !strings.Contains(words, "28 x 28") {
			t.Errorf("in words: %s", words)
		}
	}
}

// TestReportOfAnybody: a pack that was not made here is shown as far as it
// goes, or refused with the reason.
func TestReportOfAnybody(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := garments.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	must(t, "model", "compress", at("garments.onnx"), "--calibrate", at("calibration"), "--samples", "8", "-o", at("packed"))
	small, err := model.NewTensor(model.F32, 1, 1, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	bytesOf, err := model.NewTensor(model.U8, 1, 1, 28, 28)
	if err != nil {
		t.Fatal(err)
	}
	examOf := func(inputs ...*model.Tensor) func(*pack.Pack) {
		return func(p *pack.Pack) { p.Exam = &pack.Exam{Cases: []pack.Case{{Inputs: inputs}}} }
	}
	chosen := func(front string) func(*pack.Pack) {
		return func(p *pack.Pack) { p.Report = []byte(`{"certificate":{"chosen":3,"front":[` + front + `]}}`) }
	}
	for what, c := range map[string]struct {
		change func(*pack.Pack)
		say    string // "": the page is written
	}{
		"no exam":          {func(p *pack.Pack) { p.Exam = nil }, ""},
		"a case of none":   {examOf(), ""},
		"a small picture":  {examOf(small), "its input is float32[1 1 2 2], the preprocessing makes float32[1 1 28 28]"},
		"bytes":            {examOf(bytesOf), "its input is uint8[1 1 28 28]"},
		"an empty front":   {chosen(""), ""},
		"chosen of nobody": {chosen(`{"name":"float32"}`), "candidate 3 is chosen of a front of 1"},
	} {
		p, err := pack.ReadDir(at("packed"))
		if err != nil {
			t.Fatal(err)
		}
		c.change(&p.Pack)
		if _, err := writePack(at(what), &p.Pack); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		p.Close()
		status, _, errs := try(t, "model", "report", at(what), "-o", at(what+".html"))
		if want := map[bool]int{true: statusOK, false: statusFailed}[c.say == ""]; status != want || !strings.Contains(errs, c.say) {
			t.Errorf("%s: status %d, %s", what, status, errs)
		}
	}
	if page, err := os.ReadFile(at("no exam.html")); err != nil || !bytes.Contains(page, []byte("carries no samples")) || bytes.Contains(page, []byte("these must look")) {
		t.Errorf("a page without samples does not say so; %v", err)
	}
}

// TestReportReplaces: a page takes the place of the one before in one step, and
// a link is written through.
func TestReportReplaces(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "page.html"), filepath.Join(dir, "link.html")
	p := &reportPage{Name: "first"}
	if err := p.write(file); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(file) // of the page before, while another is written
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	p.Name = "second"
	if err := p.write(file); err != nil {
		t.Fatal(err)
	}
	if old, err := io.ReadAll(reader); err != nil || !bytes.Contains(old, []byte("<h1>first</h1>")) || !bytes.HasSuffix(old, []byte("</html>\n")) {
		t.Errorf("the page before is not whole: %.60q, %v", old, err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	p.Name = "third"
	if err := p.write(link); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Contains(text, []byte("<h1>third</h1>")) {
		t.Errorf("through a link: %.60q, %v", text, err)
	}
}

// TestReportEscapes: whatever words a pack's report has, they are words on the
// page, and nothing that a browser does.
func TestReportEscapes(t *testing.T) {
	const bad = `<script src='x'>&"`
	said, _ := json.Marshal(bad)
	text := strings.ReplaceAll(`{"bytes":{"before":8,"after":4},
"quant":{"layers":[{"name":BAD,"op":BAD,"precision":BAD,"why":BAD,"weight_error":20,"output_error":30,"bytes_before":4,"bytes_after":1}]},
"certificate":{"measure":BAD,"compared":BAD,"bound":BAD,"target":BAD,"data":BAD,"machine":BAD,"chosen":0,"front":[
{"name":BAD,"bytes":8,"certified":true},{"name":BAD,"bytes":4,"why":BAD}],
"sensitivity":{"layers":[{"name":BAD,"op":BAD,"costs":[{"level":BAD,"kl":0.5}],"protected":true}]},
"refused":[{"what":BAD,"why":BAD}]}}`, "BAD", string(said))
	var r packReport
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	spec := prep.Spec{Inputs: []prep.Input{{Kind: "values", Layout: "flat", Scale: 1, Fields: []string{bad}}}}
	x, err := model.NewTensor(model.F32, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newReportPage(bad, r, spec, func(yield func(string, *model.Tensor) error) error { return yield(bad, x) })
	if err != nil {
		t.Fatal(err)
	}
	p.Seen[0].Picture = bad
	page := p.html()
	for _, sign := range []string{"<script", "src='x'", `&"`, "%!"} {
		if at := strings.Index(page, sign); at >= 0 {
			t.Errorf("the page has %s: %s", sign, page[max(0, at-60):min(len(page), at+60)])
		}
	}
	if n := strings.Count(page, "&lt;script"); n < 20 {
		t.Errorf("%d words of the pack, want at least 20", n)
	}
	var d document
	if d.f("%s", quant.Level(bad)); d.String() != html.EscapeString(bad) {
		t.Errorf("a level is written as %s", d.String())
	}
}
