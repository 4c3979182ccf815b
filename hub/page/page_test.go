package page_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dunlin/hub/page"
)

func TestHandler(t *testing.T) {
	h := page.Handler()
	ask := func(method, path, tag string) *http.Response {
		r := httptest.NewRequest(method, path, nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/static/main.js": "text/javascript; charset=utf-8", "/static/style.css": "text/css; charset=utf-8",
		"/static/text.json": "application/json", "/static/dunlin.svg": "image/svg+xml", "/static/vendor/uplot/uPlot.esm.js": "text/javascript; charset=utf-8",
	} {
		r := ask("GET", path, "")
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != kind {
			t.Errorf("%s: %s, %q, want 200, %q", path, r.Status, r.Header.Get("Content-Type"), kind)
		}
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if again := ask("GET", path, r.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: asked with its ETag: %s, want 304", path, again.Status)
		}
		if body, _ := io.ReadAll(ask("HEAD", path, "").Body); len(body) != 0 {
			t.Errorf("%s: HEAD has a body of %d bytes", path, len(body))
		}
	}
	for _, path := range []string{"/static/", "/static", "/index.html", "/static/../page.go", "/static/none.js"} {
		if r := ask("GET", path, ""); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, want 404", path, r.Status)
		}
	}
	if r := ask("POST", "/", ""); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("POST /: %s, Allow %q", r.Status, r.Header.Get("Allow"))
	}
}

// ours are the page's own files, by name.
func ours(t *testing.T, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("static", pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(names), err)
	}
	files := map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	return files
}

// TestNoMarkupFromText keeps out the functions that would parse what came
// over the network, and addresses that are not the hub's.
func TestNoMarkupFromText(t *testing.T) {
	parses := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function|srcdoc|setHTMLUnsafe|createContextualFragment`)
	elsewhere := regexp.MustCompile(`https?://[\w.]+`)
	for name, text := range ours(t, "*.*") {
		if strings.HasSuffix(name, ".js") {
			if found := parses.FindString(text); found != "" {
				t.Errorf("%s uses %s", name, found)
			}
		}
		for _, address := range elsewhere.FindAllString(text, -1) {
			// Names of vocabularies look like addresses; nobody asks them.
			if address != "http://www.w3.org" && address != "http://purl.org" {
				t.Errorf("%s names %s", name, address)
			}
		}
	}
	for name, text := range ours(t, "*.html") {
		if regexp.MustCompile(`(?i)\son\w+\s*=|\sstyle\s*=|<style|<script(?:[^>]*)>[^<]`).MatchString(text) {
			t.Errorf("%s has inline script or style, which the policy stops", name)
		}
	}
}

// TestWords checks that both languages have the same words, with the same
// places to fill in, and that each word that the page asks for is there.
func TestWords(t *testing.T) {
	data, err := os.ReadFile("static/text.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]string
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	places := regexp.MustCompile(`\{\w+\}`)
	sorted := func(s string) []string { p := places.FindAllString(s, -1); slices.Sort(p); return p }
	for lang, words := range all {
		for key, text := range all["en"] {
			if words[key] == "" || !slices.Equal(sorted(words[key]), sorted(text)) {
				t.Errorf("%s: %s is %q, in English %q", lang, key, words[key], text)
			}
		}
		if len(words) != len(all["en"]) {
			t.Errorf("%s has %d words, English %d", lang, len(words), len(all["en"]))
		}
	}
	asked := regexp.MustCompile(`(?:\bt\(|pair\(|data-text=)"([a-z0-9.]+)"`)
	for _, pattern := range []string{"*.js", "*.html"} {
		for name, text := range ours(t, pattern) {
			for _, m := range asked.FindAllStringSubmatch(text, -1) {
				if !strings.HasSuffix(m[1], ".") && all["en"][m[1]] == "" {
					t.Errorf("%s asks for %q, which text.json does not have", name, m[1])
				}
			}
		}
	}
}

// TestVendor checks that the library's files are those that were reviewed.
func TestVendor(t *testing.T) {
	dir := filepath.Join("static", "vendor", "uplot")
	sums, err := os.Open(filepath.Join(dir, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	defer sums.Close()
	listed := []string{"SHA256SUMS"}
	for s := bufio.NewScanner(sums); s.Scan(); {
		want, name, _ := strings.Cut(s.Text(), "  ")
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != want {
			t.Errorf("%s is %x, SHA256SUMS says %s", name, got, want)
		}
		listed = append(listed, name)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(listed, e.Name()) {
			t.Errorf("%s is not in SHA256SUMS", e.Name())
		}
	}
}
