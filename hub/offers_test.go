package hub

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"dunlin/facts"
	"dunlin/hub/api"
	"dunlin/sync/link"
	"dunlin/sync/wire"
)

// closedHub is an open hub that is never run: nothing comes and goes on its
// own.
func closedHub(t *testing.T, names ...string) *Hub {
	t.Helper()
	h, err := Open(Options{Dir: t.TempDir(), HTTPAddr: "127.0.0.1:0", MQTTAddr: "127.0.0.1:0", PublicHTTP: "http://127.0.0.1:1", PublicMQTT: "tcp://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	for _, name := range names {
		if _, err := h.Enrol(wire.Device{Tenant: "acme", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// says hands the hub a message as the link would.
func says[M any](t *testing.T, h *Hub, name string, k wire.Kind, v M, encode func(M) ([]byte, error)) {
	t.Helper()
	payload, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	h.handle(link.Message{Topic: wire.Topic(wire.Device{Tenant: "acme", Name: name}, k), Payload: payload})
}

func (h *Hub) wants(t *testing.T, name string) *wire.Offer {
	t.Helper()
	d, err := h.Device(wire.Device{Tenant: "acme", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if d.Wanted == nil {
		return nil
	}
	return d.Wanted.Facts
}

func importText(t *testing.T, h *Hub, document, text string) api.Graph {
	t.Helper()
	g, err := h.ImportFacts(t.Context(), "g", document, strings.NewReader(text), false)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestBlankNodesOfTwoDocuments: _:x of one file and _:x of another are two
// nodes, and the same file twice says nothing new.
func TestBlankNodesOfTwoDocuments(t *testing.T) {
	h := closedHub(t)
	const a, b = "_:x <http://x/p> \"a\" .\n", "_:x <http://x/p> \"b\" .\n"
	nodes := func() int {
		t.Helper()
		g, err := h.graphs.get("g", false)
		if err != nil {
			t.Fatal(err)
		}
		all, err := g.Match(g.Latest(), facts.Term{}, facts.Term{}, facts.Term{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := map[facts.Term]bool{}
		for _, f := range all {
			found[f.S] = true
		}
		return len(found)
	}
	if g := importText(t, h, "", a); !strings.HasPrefix(g.Document, "sha256:") {
		t.Errorf("document %q", g.Document)
	}
	importText(t, h, "", b)
	if n := nodes(); n != 2 {
		t.Errorf("%d nodes of two documents", n)
	}
	if g := importText(t, h, "", a); g.Version != 2 || g.Facts != 2 {
		t.Errorf("the same text again: %+v", g)
	}
	if g := importText(t, h, "c.nt", a); g.Document != "c.nt" {
		t.Errorf("document %q", g.Document)
	}
	importText(t, h, "c.nt", b)
	if n := nodes(); n != 3 {
		t.Errorf("%d nodes of three documents", n)
	}
	if _, err := h.ImportFacts(t.Context(), "g", "\xff", strings.NewReader(a), false); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
}

// TestWhoseFaultAnImportIs: only what is wrong with the request is told to
// the one who sent it as his.
func TestWhoseFaultAnImportIs(t *testing.T) {
	h := closedHub(t)
	importText(t, h, "", "<http://x/s> <http://x/p> \"o\" .\n")
	try := func(r io.Reader) error {
		_, err := h.ImportFacts(t.Context(), "g", "", r, false)
		return err
	}
	for name, r := range map[string]io.Reader{
		"syntax":    strings.NewReader("<a> <b> .\n"),
		"long term": strings.NewReader("<http://x/s> <http://x/p> \"" + strings.Repeat("o", 1<<19) + "\" .\n"),
		"cut off":   iotest.ErrReader(io.ErrUnexpectedEOF),
	} {
		if err := try(r); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	g, err := h.graphs.get("g", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := try(strings.NewReader("<http://x/s> <http://x/p> \"q\" .\n")); err == nil || errors.Is(err, api.ErrInvalid) {
		t.Errorf("a disk that fails: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(h.o.Dir, "import-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestHelloMakesNoArtefact: a device that comes back while an artefact is
// made does not wait for it, and neither does anybody else.
func TestHelloMakesNoArtefact(t *testing.T) {
	h := closedHub(t, "left")
	importText(t, h, "", "<http://x/s> <http://x/p> \"o\" .\n")
	if h.wants(t, "left") == nil {
		t.Fatal("nothing on offer after the import")
	}
	late := wire.Device{Tenant: "acme", Name: "late"}
	if _, err := h.Enrol(late); err != nil {
		t.Fatal(err)
	}
	clear(h.graphs.made) // as after a restart
	h.graphs.building.Lock()
	says(t, h, "late", wire.UpHello, wire.Hello{Epoch: "0123456789abcdef", Boot: "b"}, wire.Encode[wire.Hello])
	if h.wants(t, "late") != nil {
		t.Error("an artefact was made on the way of a message")
	}
	h.graphs.building.Unlock()
	h.makeLacking(t.Context())
	if o := h.wants(t, "late"); o == nil || o.Version != 1 || o.From != 0 {
		t.Errorf("the worker offered %+v", o)
	}
}

// TestOldFactsAreSwept: an import removes the artefacts of old versions, and
// neither what devices are to have nor an upload that is under way.
func TestOldFactsAreSwept(t *testing.T) {
	h := closedHub(t, "left")
	first := importText(t, h, "", "<http://x/s> <http://x/p> \"o\" .\n")
	const upload = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" // of "foo"
	if err := h.PutBlob(upload, strings.NewReader("foo")); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(h.o.Dir, "registry", "blobs", "sha256")
	before, err := os.ReadDir(part)
	if err != nil {
		t.Fatal(err)
	}
	second := importText(t, h, "", "<http://x/s> <http://x/p> \"q\" .\n")
	if _, _, err := h.OpenBlob(first.Manifest); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("the old base is still there: %v", err)
	}
	for _, digest := range []string{upload, second.Manifest, h.wants(t, "left").Manifest} {
		f, _, err := h.OpenBlob(digest)
		if err != nil {
			t.Error(err)
			continue
		}
		f.Close()
	}
	after, err := os.ReadDir(part)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d blobs after the second import, %d before", len(after), len(before))
	}
	if g, err := h.Graphs(); err != nil || len(g) != 1 || g[0].Manifest != second.Manifest {
		t.Errorf("%+v, %v", g, err)
	}
}

// TestImportWithoutAListener: the version that was imported is offered even
// where the one who sent it went away before its artefacts were made.
func TestImportWithoutAListener(t *testing.T) {
	h := closedHub(t, "left")
	importText(t, h, "", "<http://x/s> <http://x/p> \"o\" .\n")
	g, err := h.graphs.get("g", false)
	if err != nil {
		t.Fatal(err)
	}
	clear(h.graphs.made)
	d := h.state.devices[wire.Device{Tenant: "acme", Name: "left"}]
	d.Desired = nil
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.offerGraph(gone, g); err == nil {
		t.Log("the base was made without looking at the context")
	}
	h.makeLacking(t.Context())
	if h.wants(t, "left") == nil {
		t.Error("nothing on offer")
	}
}
