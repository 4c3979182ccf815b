package hub_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/sync/fetch"
	"dunlin/sync/wire"
)

func triple(s string, n int) string {
	return fmt.Sprintf("<http://x/%s> <http://x/p%d> \"o%d\" .\n", s, n%7, n)
}

func triples(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(triple(fmt.Sprint("s", i%50), i))
	}
	return b.String()
}

// learns makes a board apply every facts offer to its cache.
func (b *board) learns(c *cache.Cache) {
	b.says(func(d wire.Desired) {
		if d.Facts == nil || c.Version() == (cache.Version{Graph: d.Facts.Name, Version: d.Facts.Version}) {
			return
		}
		state, why := wire.StateActive, wire.ReasonNone
		if err := b.apply(c, d.Facts); err != nil {
			b.t.Logf("refused: %v", err)
			state, why = wire.StateRefused, wire.ReasonWrongBase
		}
		v := c.Version()
		send(b, wire.UpReported, wire.Reported{
			Gen: d.Gen, Facts: &wire.FactsVersion{Graph: v.Graph, Version: v.Version},
			Reports: []wire.Report{{Kind: wire.OfferFacts, Name: d.Facts.Name, Version: d.Facts.Version, Digest: d.Facts.Manifest, State: state, Reason: why}},
		}, wire.Encode[wire.Reported])
	}, nil)
}

func (b *board) apply(c *cache.Cache, o *wire.Offer) error {
	if err := (sign.Trust{b.token.HubKey}).Verify(o.Kind.Purpose(), []byte(o.Manifest), o.Sig); err != nil {
		return err
	}
	l, err := oci.Create(b.t.TempDir())
	if err != nil {
		return err
	}
	f, err := fetch.New(b.token.HTTP, b.token.Secret, l, fetch.Options{})
	if err != nil {
		return err
	}
	if err := f.Artefact(b.t.Context(), o.Manifest, o.Fetch, nil); err != nil {
		return err
	}
	m, err := l.Manifest(oci.Digest(o.Manifest))
	if err != nil {
		return err
	}
	if strings.HasPrefix(m.Layers[0].MediaType, cache.MediaTypePatch) {
		blob, _, err := l.OpenBlob(m.Layers[0].Digest)
		if err != nil {
			return err
		}
		defer blob.Close()
		return c.ApplyPatch(o.Name, o.From, o.Version, blob)
	}
	path, err := l.Path(m.Layers[0].Digest)
	if err != nil {
		return err
	}
	return c.ApplyBase(o.Name, o.Version, path)
}

func TestFactsReachTheDevice(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	b := start(t, s.enrol("left"), t.TempDir())
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.learns(c)
	has := func(version int64, n int) func() bool {
		return func() bool {
			all, err := c.Match(facts.Term{}, facts.Term{}, facts.Term{}, 0)
			return err == nil && c.Version().Version == version && len(all) == n
		}
	}

	var g api.Graph
	s.must("POST", "/v1/facts?graph=garments", triples(0, 500), &g)
	if g.Version != 1 || g.Facts != 500 || g.Manifest == "" {
		t.Fatalf("%+v", g)
	}
	eventually(t, "the base is applied", has(1, 500))
	if b.newest().Facts.From != 0 {
		t.Error("the first offer is no base")
	}
	eventually(t, "the hub knows it", func() bool {
		d, err := s.hub.Device(b.id)
		return err == nil && d.Reported != nil && d.Reported.Facts != nil && d.Reported.Facts.Version == 1
	})
	s.must("POST", "/v1/facts?graph=garments", triples(495, 510), &g)
	eventually(t, "the patch is applied", has(2, 510))
	if b.newest().Facts.From != 1 {
		t.Errorf("the second offer is from %d", b.newest().Facts.From)
	}
	s.must("POST", "/v1/facts?graph=garments&replace=1", triples(0, 20), &g)
	eventually(t, "the smaller graph is applied", has(3, 20))

	var d struct{ Facts []facts.Answer }
	s.must("GET", "/v1/facts/describe?iri=http://x/s3", nil, &d)
	if len(d.Facts) != 1 || d.Facts[0].Object != "o3" || d.Facts[0].Graph != "garments@3" || d.Facts[0].Label != "p3" || d.Facts[0].Source != "garments" {
		t.Errorf("%+v", d.Facts)
	}
	for path, want := range map[string]int{
		"/v1/facts?graph=../etc": http.StatusBadRequest,
		"/v1/facts?graph=empty":  http.StatusBadRequest,
	} {
		if status := s.call("POST", path, "", nil); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if status := s.call("POST", "/v1/facts?graph=garments", "<a> <b> .", nil); status != http.StatusBadRequest {
		t.Errorf("broken N-Triples: %d", status)
	}
}

// TestWrongBase has a device lose its facts after it has told the hub which
// ones it has: it refuses the patch and gets a base.
func TestWrongBase(t *testing.T) {
	s := run(t, hub.Options{Dir: t.TempDir()})
	b := start(t, s.enrol("left"), t.TempDir())
	eventually(t, "it is online", func() bool { return s.online() == 1 })
	s.must("POST", "/v1/facts?graph=garments", triples(0, 500), nil)
	send(b, wire.UpReported, wire.Reported{Facts: &wire.FactsVersion{Graph: "garments", Version: 1}}, wire.Encode[wire.Reported])
	eventually(t, "the hub knows it", func() bool {
		d, err := s.hub.Device(b.id)
		return err == nil && d.Reported != nil
	})
	c, err := cache.Open(filepath.Join(t.TempDir(), "cache.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.learns(c)
	s.must("POST", "/v1/facts?graph=garments", triples(500, 510), nil)
	eventually(t, "the base is applied", func() bool { return c.Version().Version == 2 })
}
