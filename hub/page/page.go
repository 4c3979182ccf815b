// Package page is the hub's web page: what a person leaves open on a wall to
// see the fleet, its rollouts and its answers as they come. Start with
// Handler.
//
// Its promise: the page needs nothing but the hub. It loads no script, font
// or picture from elsewhere, runs no inline script, and shows every text that
// came over the network as text, never as markup. What it asks the hub for is
// in package hub/api.
//
// It holds no data and checks no token: the API does. What is served here is
// the same for everyone.
//
// The files in static are served as they are, without a build step:
//
//	index.html   the empty page: landmarks, the login form, the dialog
//	main.js      starts it, holds what is known, draws when that changes
//	api.js       requests, the session, the hub's clock
//	live.js      server-sent events, and what happens without them
//	dom.js       elements from text; lists that change in place
//	words.js     text.json in the reader's language; numbers and times
//	enrol.js     adding a device: a claim and its QR code
//	fleet.js rollouts.js models.js charts.js results.js facts.js: the sections
//	vendor       uPlot (MIT), unchanged, with its licence: see vendor.sh
package page

//go:generate ./vendor.sh

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed static
var static embed.FS

// policy lets the page load from its own origin only. frame-ancestors keeps
// other sites from putting the buttons of a rollout under somebody's mouse.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

// types are the media types of the files, written down here because those of
// package mime depend on the machine.
var types = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".json": "application/json",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8",
}

// file is one file as it is served.
type file struct {
	kind, tag string
	data      []byte
}

// Handler serves the page at / and its files below /static/. Only GET and
// HEAD of files that exist are answered. Each file carries an ETag and is
// asked for again at every visit, so that a new hub never meets an old page.
func Handler() http.Handler {
	files, err := load(static)
	if err != nil {
		// The files are part of the program: it was built wrong.
		panic(fmt.Sprintf("page: %v", err))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, found := files[r.URL.Path]
		switch {
		case !found:
			http.NotFound(w, r)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		if r.Header.Get("If-None-Match") == f.tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", fmt.Sprint(len(f.data)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(f.data) // the reader went away
		}
	})
}

// load reads every file of tree, by the path at which it is served.
func load(tree fs.FS) (map[string]file, error) {
	files := map[string]file{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kind, known := types[path.Ext(name)]
		if !known {
			return fmt.Errorf("%s: no media type for %q", name, path.Ext(name))
		}
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		at := "/" + name
		if strings.HasSuffix(name, "/index.html") {
			at = "/"
		}
		files[at] = file{kind: kind, tag: `"` + hex.EncodeToString(sum[:12]) + `"`, data: data}
		return nil
	})
	return files, err
}
