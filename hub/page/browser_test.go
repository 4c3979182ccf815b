package page_test

import (
	"context"
	"encoding/json"
	"flag"
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

	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// pictures is where TestInBrowser leaves its screenshots; the test's own
// folder, which goes with it, where it is not set.
var pictures = flag.String("pictures", "", "folder for the screenshots")

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
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-US"), chromedp.WindowSize(1280, 900))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	ctx, cancelAllocator := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancelAllocator)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(cancelTab)
	return ctx
}

// tab is a page in a browser, with the questions that tests ask of it.
type tab struct {
	*testing.T
	ctx context.Context
}

func (p tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.Fatal(err)
	}
}

// until waits for a JavaScript expression to be true; one that throws, on an
// element that is not there yet, is not.
func (p tab) until(what, expression string) {
	p.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool]("(() => { try { return Boolean("+expression+") } catch { return false } })()", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(time.Minute)))
	if err != nil {
		body, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		p.Fatalf("%s: %v; the page:\n%s", what, err, body)
	}
}

func (p tab) shot(name string) {
	p.Helper()
	dir := *pictures
	if dir == "" {
		dir = p.TempDir()
	}
	data, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644); err != nil {
		p.Fatal(err)
	}
}

func media(scheme string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
		_, err = cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return v, err
	}
}

// complaints collects what the browser's console says of the page: errors of
// its scripts, and what the content security policy stopped. That a request
// failed is said there too, and is no fault of the page.
func complaints(ctx context.Context) (said func() []string) {
	var mu sync.Mutex // guards all
	var all []string
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if text := m.String(); m.IsException() || m.Type == chromedp.ConsoleError && !strings.Contains(text, "Failed to load resource") {
				mu.Lock()
				all = append(all, text)
				mu.Unlock()
			}
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// TestInBrowser walks through the page as a person does, against the real API.
func TestInBrowser(t *testing.T) {
	ctx := browser(t)
	f := newFleet(t)
	said := complaints(ctx)
	p := tab{t, ctx}
	for _, step := range []struct {
		name string
		do   func(tab, *fleet)
	}{
		{"login", login},
		{"fleet", seesFleet},
		{"live", live},
		{"explained", explained},
		{"filter", filter},
		{"rollout", controls},
		{"facts", looksUp},
		{"adds", adds},
		{"looks", looks},
		{"phone", phone},
		{"disconnected", disconnected},
		{"chinese", chinese},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.do(tab{t, p.ctx}, f) }) {
			break
		}
	}
	for _, text := range said() {
		t.Errorf("the console says: %s", text)
	}
}

func login(p tab, f *fleet) {
	p.do(chromedp.EmulateViewport(1280, 900), media("light"), chromedp.Navigate("http://"+f.addr+"/"))
	p.until("the form is shown", `!document.getElementById("login").hidden`)
	p.do(chromedp.SendKeys(chromedp.ID("token"), "not the token\r"))
	p.until("a wrong token is refused", `document.getElementById("login-error").textContent`)
	p.shot("login")
	p.do(chromedp.Navigate("about:blank"), chromedp.Navigate("http://"+f.addr+"/#token="+token))
	p.until("the page opens", `!document.getElementById("main").hidden`)
	p.until("the stream is open", `document.getElementById("link").dataset.state === "live"`)
	p.until("the token is gone from the address", `location.hash === ""`)
	p.until("no script can read the session", `document.cookie === ""`)
}

func seesFleet(p tab, f *fleet) {
	p.until("four devices", `document.querySelectorAll("#fleet tbody tr").length === 4`)
	for selector, want := range map[string]string{
		`[data-device="home/door"]`:        "garments@2",
		`[data-device="home/store"]`:       "failed its exam",
		`[data-device="home/yard"]`:        "46", // of its records wait
		`[data-device="home/hall"] .agent`: "dunlin-agent 1.2.3 reverted: it did not reach",
		`[data-device="home/hall"] .warn`:  "throttled: 82 °C, frames at 1/4, threads: 2",
		`#tiles`:                           "3/4",
		`[data-rollout="r2"]`:              "1 of 2 devices have not finished",
		`#graphs`:                          "297 facts",
	} {
		// The page draws at most every 250 ms: what it says may be a moment behind.
		p.until(selector+" says "+want, "document.querySelector("+quote(selector)+").textContent.includes("+quote(want)+")")
	}
	p.until("why it is throttled", `document.querySelector('[data-device="home/hall"] small.warn').title === "cpu is at 82.1 °C, its soft limit is 80 °C"`)
	p.until("the pack's report was read", `document.querySelector("#models").textContent.includes("92.69 % → 92.51 %")`)
	p.until("one model of two has a front, drawn by the hub", `document.querySelectorAll("#models .front").length === 1 && document.querySelector("#models .front img").naturalWidth > 0`)
	for _, want := range []string{"6.1 times smaller", "95 % confidence at most 0.51 points", "0.04 on 9,488 samples"} {
		p.until("what was promised: "+want, `document.querySelector("#models .front figcaption").textContent.includes(`+quote(want)+`)`)
	}
	p.until("the chosen form is named", `document.querySelector("#models .chip").textContent === "6 int8, 9 int4"`)
	p.until("both charts are drawn", `document.querySelectorAll("#charts canvas").length === 2`)
}

func live(p tab, f *fleet) {
	evil := `<img src=x onerror="window.hurt=1"><script>window.hurt=2</script>`
	r := answer(time.Now(), garments(2), evil, 0.97, 412)
	r.Facts[0].Object, r.Model.Form = evil, wire.FormSmall
	f.events.Publish(api.EventResult, f.tell("door", 900, r)) // told twice, shown once
	p.until("the result is the first row", `document.querySelector(".result .label").textContent === `+quote(evil))
	p.until("it is there once", `document.querySelectorAll('[data-key="home/door e1 900"]').length === 1`)
	p.do(chromedp.Focus(chromedp.CSS(".result summary")), chromedp.KeyEvent("\r"))
	p.until("Enter opens it, with the source of each fact", `document.querySelector(".result[open] .proof").textContent.includes("from dunlin example facts")`)
	p.until("with what the sensors said", `document.querySelector(".result[open] .proof").textContent.includes("halltemperature 21.43 °Cfrom sensor hall (bme280)<b>dust 0.0125 (4 s before)from")`)
	p.until("which form answered", `document.querySelector(".result[open]").textContent.includes("garments@2 small form")`)
	p.until("what came is text, not markup", `!document.querySelector("main img:not(.front img), main script") && window.hurt === undefined`)
	f.tell("hall", 901, answer(time.Now(), garments(2), "Ankle boot", 0.91, 398))
	p.until("the next one is above it", `document.querySelector(".result .label").textContent === "Ankle boot"`)
	p.until("the open one stays open", `document.querySelector('[data-key="home/door e1 900"]').open`)
	p.shot("open")
	p.do(chromedp.Click(chromedp.CSS(`[data-key="home/door e1 900"] summary`)))
}

// explained sees an explanation come to a result that is there already.
func explained(p tab, f *fleet) {
	p.do(chromedp.Click(chromedp.CSS(`[data-key="home/hall e1 901"] summary`)))
	f.explain(p.T)
	p.until("the open row shows it", `document.querySelector('[data-key="home/hall e1 901"][open] .why img').naturalWidth === 28`)
	p.until("with a caption that is text", `document.querySelector(".why figcaption").textContent.includes("“<b>Ankle boot</b>”, by class activation map") && !document.querySelector(".why b")`)
	p.shot("explained")
	p.do(chromedp.Click(chromedp.CSS(`[data-key="home/hall e1 901"] summary`)))
	p.until("the closed row says that there is one", `document.querySelector('[data-key="home/hall e1 901"] .said .chip').textContent === "explained"`)
}

func filter(p tab, _ *fleet) {
	choose := func(value string) {
		p.until("chosen", `((s) => { s.value = `+quote(value)+`; return s.dispatchEvent(new Event("change")) })(document.getElementById("filter-device"))`)
	}
	choose("home/hall")
	p.until("only the rows of one device", `[...document.querySelectorAll(".result .from")].length > 10 && [...document.querySelectorAll(".result .from")].every((e) => e.title === "home/hall")`)
	choose("")
	p.until("all again", `[...document.querySelectorAll(".result .from")].some((e) => e.title === "home/door")`)
	p.do(chromedp.Click(chromedp.ID("older")))
	p.until("older rows come on demand", `document.querySelectorAll(".result").length === 200`)
}

func controls(p tab, f *fleet) {
	p.do(chromedp.Click(chromedp.CSS(`[data-rollout="r2"] [data-act="pause"]`)), chromedp.WaitVisible(chromedp.ID("ask")))
	p.do(chromedp.Click(chromedp.ID("ask-no")))
	p.until("nothing was done", `!document.getElementById("ask").open`)
	p.do(chromedp.Click(chromedp.CSS(`[data-rollout="r2"] [data-act="pause"]`)), chromedp.WaitVisible(chromedp.ID("ask")))
	p.shot("confirm")
	p.do(chromedp.Click(chromedp.ID("ask-yes")))
	p.until("it is paused, and can be resumed", `document.querySelector('[data-rollout="r2"] [data-act="resume"]') && document.querySelector('[data-rollout="r2"] .chip').textContent === "paused"`)
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := []string{"r2 pause"}; !slices.Equal(f.asked, want) {
		p.Errorf("the hub was asked for %q, want %q", f.asked, want)
	}
}

func looksUp(p tab, _ *fleet) {
	p.do(chromedp.SendKeys(chromedp.ID("entity"), "ankle boot\r"))
	p.until("a label finds its entity", `document.getElementById("described").textContent.includes("leather, rubber")`)
	p.do(chromedp.SetValue(chromedp.ID("entity"), "https://dunlin.example/nothing"), chromedp.SendKeys(chromedp.ID("entity"), "\r"))
	p.until("nothing is said of others", `document.getElementById("described").textContent.includes("says nothing")`)
	p.do(chromedp.SetValue(chromedp.ID("entity"), "Ankle boot"), chromedp.SendKeys(chromedp.ID("entity"), "\r"))
	p.until("and again", `document.getElementById("described").textContent.includes("leather, rubber")`)
}

// adds makes a claim, and has the code on the screen read by another program.
func adds(p tab, f *fleet) {
	p.do(chromedp.Click(chromedp.ID("add")), chromedp.SendKeys(chromedp.ID("enrol-name"), "nowhere/porch\r"))
	p.until("what the hub refuses is said", `document.getElementById("toast").textContent.includes("nowhere")`)
	p.do(chromedp.SetValue(chromedp.ID("enrol-name"), "home/porch"), chromedp.SendKeys(chromedp.ID("enrol-name"), "\r"))
	p.until("the line is there, and marked", `document.activeElement.id === "enrol-line" && document.activeElement.value === `+quote("sudo dunlin-agent install '"+theClaim+"'"))
	p.until("it says that nothing is encrypted", `document.querySelector("#enrol .warn")`)
	for _, scheme := range []string{"light", "dark"} {
		p.do(media(scheme))
		data, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			p.Fatal(err)
		}
		if got := scan(p.T, data); got != theClaim {
			p.Errorf("in %s the code is read as %q", scheme, got)
		}
	}
	p.do(media("light"))
	p.shot("claim")
	f.events.Publish(api.EventClaim, api.Claim{ID: "c2", Count: 1, Devices: []string{"home/other"}})
	f.events.Publish(api.EventClaim, api.Claim{ID: "c1", Count: 1, Devices: []string{"home/porch"}})
	p.until("the device has joined", `document.getElementById("enrol-state").textContent === "home/porch has joined."`)
	f.events.Publish(api.EventClaim, api.Claim{ID: "c1", Count: 1, Refused: 1, RefusedAt: time.Now(), RefusedFrom: "10.0.0.9", RefusedWhy: "it was <b>used</b>"})
	p.until("who was refused is said", `document.getElementById("toast").textContent === "A device at 10.0.0.9 was refused: it was <b>used</b>"`)
	p.do(chromedp.Click(chromedp.ID("enrol-close")))
	p.until("the claim is nowhere on the page", `!document.documentElement.outerHTML.includes("dunlin-claim") && !document.querySelector(".qr")`)
}

// scan reads the code in a picture; "" where there is none.
func scan(t *testing.T, picture []byte) string {
	t.Helper()
	zbar, err := exec.LookPath("zbarimg")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("zbarimg is missing: apt-get install zbar-tools")
		}
		return theClaim
	}
	file := filepath.Join(t.TempDir(), "screen.png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command(zbar, "--raw", "-q", file).Output() // it fails where it finds none
	return strings.TrimSpace(string(out))
}

// looks takes the pictures of the page in both themes.
func looks(p tab, _ *fleet) {
	p.until("at the top", `(document.activeElement.blur(), scrollTo(0, 0), true)`)
	p.shot("light")
	light := p.background()
	p.do(media("dark"))
	p.until("it is dark", `getComputedStyle(document.body).backgroundColor !== `+quote(light))
	p.until("the charts too", `document.querySelectorAll("#charts canvas").length === 2`)
	p.shot("dark")
	p.do(chromedp.Click(chromedp.ID("theme")))
	p.until("the button is stronger than the system", `getComputedStyle(document.body).backgroundColor === `+quote(light))
	p.do(chromedp.Click(chromedp.ID("theme")), chromedp.Click(chromedp.ID("theme")), media("light"))
	p.until("it follows the system again", `getComputedStyle(document.body).backgroundColor === `+quote(light))
}

func (p tab) background() string {
	p.Helper()
	s, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
	if err != nil {
		p.Fatal(err)
	}
	return s
}

func phone(p tab, _ *fleet) {
	p.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateTouch))
	p.until("nothing is wider than the screen", `document.documentElement.scrollWidth <= 390 && document.querySelector("#rate canvas").clientWidth < 390`)
	p.shot("phone")
	for _, id := range []string{"rollouts", "charts", "results", "models"} {
		p.until("scrolled", `(document.getElementById(`+quote(id)+`).scrollIntoView(), true)`)
		p.shot("phone-" + id)
	}
	p.do(chromedp.EmulateViewport(1280, 900))
	p.until("wide again", `(scrollTo(0, 0), document.querySelector("#rate canvas").clientWidth > 400)`)
}

func disconnected(p tab, f *fleet) {
	f.stop()
	p.until("the page says so", `document.getElementById("link").dataset.state === "down" && !document.getElementById("banner").hidden`)
	p.until("the old figures are pale", `getComputedStyle(document.querySelector("main")).opacity < 0.75`)
	p.shot("disconnected")
	f.tell("store", 950, answer(time.Now(), garments(1), "Came meanwhile", 0.8, 500))
	f.listen(p.T, f.addr)
	p.do(chromedp.Click(chromedp.CSS("#banner button")))
	p.until("it is live again", `document.getElementById("link").dataset.state === "live" && document.getElementById("banner").hidden`)
	p.until("what was missed is there", `[...document.querySelectorAll(".result .label")].some((e) => e.textContent === "Came meanwhile")`)
}

func chinese(p tab, f *fleet) {
	p.do(speak("zh-CN"), chromedp.Navigate("about:blank"), chromedp.Navigate("http://"+f.addr+"/"))
	p.until("the page speaks Chinese", `document.documentElement.lang === "zh-Hans" && document.getElementById("fleet-h").textContent === "设备"`)
	p.until("the session is still good", `document.querySelectorAll("#fleet tbody tr").length === 4`)
	p.shot("chinese")
}

func speak(language string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (v chromedp.Void, err error) {
		_, err = cdp.Call(ctx, t, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "test", AcceptLanguage: language})
		return v, err
	}
}

func garments(version int64) wire.Running {
	return wire.Running{Name: "garments", Version: version, Digest: digest("7f3e90aa")}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
