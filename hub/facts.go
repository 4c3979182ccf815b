package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"dunlin/facts"
	"dunlin/facts/graph"
	"dunlin/facts/rdf"
	"dunlin/hub/api"
	"dunlin/internal/oci"
	"dunlin/sync/wire"
)

// MediaTypeFacts is the artifact type of a facts manifest. Its one layer is a
// base or a patch (facts/cache has their media types), its title and version
// annotations are the graph's.
const MediaTypeFacts = "application/vnd.dunlin.facts.v1"

// graphRule makes a graph's name safe as a folder's.
var graphRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// graphs are the open graphs, each in a folder of its own.
type graphs struct {
	dir  string
	mu   sync.Mutex // guards open; held while one is opened
	all  map[string]*graph.Graph
	made map[step]wire.Offer // artefacts made since the start, guarded by mu
}

// step is what an artefact leads from and to; from 0 is a base.
type step struct {
	graph    string
	from, to int64
}

func (g *graphs) open(dir string) error {
	g.dir, g.all, g.made = dir, map[string]*graph.Graph{}, map[step]wire.Offer{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && graphRule.MatchString(e.Name()) {
			if _, err := g.get(e.Name(), true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *graphs) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, one := range g.all {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// get returns a graph; where it is not there yet it is made, if wanted.
func (g *graphs) get(name string, create bool) (*graph.Graph, error) {
	if !graphRule.MatchString(name) {
		return nil, fmt.Errorf("graph name %.80q: %w: use 1 to 63 of a-z, 0-9, - and _", name, api.ErrInvalid)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.all[name]
	if !create && (one == nil || one.Latest() == 0) {
		return nil, notFound("graph", name)
	}
	if one != nil {
		return one, nil
	}
	one, err := graph.Open(filepath.Join(g.dir, name))
	if err == nil {
		g.all[name] = one
	}
	return one, err
}

// list returns the graphs that hold something, by name.
func (g *graphs) list() []*graph.Graph {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []*graph.Graph
	for _, one := range g.all {
		if one.Latest() > 0 {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b *graph.Graph) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}

// ImportFacts adds N-Triples to a graph, or makes the graph hold them alone,
// and offers the version that has them to every device: a patch where the
// device said which version it has and a patch from there is smaller, else a
// base.
func (h *Hub) ImportFacts(ctx context.Context, name string, triples io.Reader, replace bool) (api.Graph, error) {
	g, err := h.graphs.get(name, true)
	if err != nil {
		return api.Graph{}, err
	}
	take := g.Import
	if replace {
		take = g.Replace
	}
	version, err := take(ctx, rdf.NewReader(triples).All(), facts.Provenance{Document: name, Confidence: 1})
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", api.ErrInvalid, err)
		}
		return api.Graph{}, err
	}
	if version == 0 {
		return api.Graph{}, fmt.Errorf("%w: graph %s: no facts", api.ErrInvalid, name)
	}
	base, err := h.makeArtefacts(ctx, g)
	if err != nil {
		return api.Graph{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := &change{}
	c.put(bucketMeta, string(keyGraph), name)
	for _, d := range h.state.devices {
		h.desireFacts(c, d, g)
	}
	if err := h.commit(c); err != nil {
		return api.Graph{}, err
	}
	h.state.graph = name
	h.wakeSpeaker()
	out := graphView(g)
	out.Manifest = base.Manifest
	h.log.Info("facts imported", "graph", name, "version", version, "facts", out.Facts)
	h.events.Publish(api.EventFacts, out)
	return out, nil
}

func graphView(g *graph.Graph) api.Graph {
	out := api.Graph{Name: g.Name()}
	if all := g.Versions(); len(all) > 0 {
		i := all[len(all)-1]
		out.Version, out.Facts, out.Added, out.Removed, out.Changed = i.Version, i.Facts, i.Added, i.Deleted, i.Time
	}
	return out
}

// artefact returns the signed offer that leads from a version (0: none) to
// the newest, and makes what it names where it is not there yet.
func (h *Hub) artefact(ctx context.Context, g *graph.Graph, from int64) (wire.Offer, error) {
	key := step{g.Name(), from, g.Latest()}
	h.graphs.mu.Lock()
	o, ok := h.graphs.made[key]
	h.graphs.mu.Unlock()
	if ok {
		return o, nil
	}
	a, err := g.Artefact(ctx, from, key.to, nil)
	if err != nil {
		return o, err
	}
	layout := h.registry.Layout()
	layer, err := layout.PutBytes(a.MediaType, a.Bytes)
	if err != nil {
		return o, fmt.Errorf("store facts: %w", err)
	}
	config, err := layout.PutBytes(v1.MediaTypeEmptyJSON, []byte("{}"))
	if err != nil {
		return o, fmt.Errorf("store facts: %w", err)
	}
	manifest, err := layout.PutManifest(&oci.Manifest{
		ArtifactType: MediaTypeFacts, Config: config, Layers: []oci.Descriptor{layer},
		Annotations: map[string]string{oci.AnnotationTitle: a.Graph, oci.AnnotationVersion: strconv.FormatInt(a.To, 10)},
	})
	if err != nil {
		return o, fmt.Errorf("store facts: %w", err)
	}
	o = wire.Offer{
		Kind: wire.OfferFacts, Name: a.Graph, Version: a.To, From: a.From, Manifest: string(manifest.Digest),
		Bytes: manifest.Size + config.Size + layer.Size,
		Sig:   h.key.Sign(wire.OfferFacts.Purpose(), []byte(manifest.Digest)),
	}
	h.graphs.mu.Lock()
	h.graphs.made[key] = o
	h.graphs.mu.Unlock()
	return o, nil
}

// makeArtefacts makes what devices will be offered, before h.mu is taken:
// the base, and a patch from each version that a device has.
func (h *Hub) makeArtefacts(ctx context.Context, g *graph.Graph) (base wire.Offer, err error) {
	from := map[int64]bool{}
	h.mu.Lock()
	for _, d := range h.state.devices {
		from[d.patchFrom(g)] = true
	}
	h.mu.Unlock()
	for v := range from {
		if _, err := h.artefact(ctx, g, v); err != nil {
			return base, err
		}
	}
	return h.artefact(ctx, g, 0)
}

// patchFrom returns the version of g that a device has, and that is older
// than the newest; else 0.
func (d *device) patchFrom(g *graph.Graph) int64 {
	if has := d.holds(); has != nil && has.Graph == g.Name() && has.Version > 0 && has.Version < g.Latest() {
		return has.Version
	}
	return 0
}

// desireFacts gives a device the newest version of a graph, unless it is
// offered already; h.mu is held.
func (h *Hub) desireFacts(c *change, d *device, g *graph.Graph) {
	latest := g.Latest()
	if d.Desired != nil && d.Desired.Facts != nil && d.Desired.Facts.Name == g.Name() && d.Desired.Facts.Version == latest {
		return
	}
	o, err := h.artefact(context.Background(), g, d.patchFrom(g))
	if err != nil {
		h.log.Error("facts not offered", "device", d.id().String(), "graph", g.Name(), "error", err)
		return
	}
	c.desire(d, 0, func(w *wire.Desired) { w.Facts = &o })
}

// offerFacts sees to it that a device that came back is offered the present
// graph; h.mu is held.
func (h *Hub) offerFacts(d *device) {
	if h.state.graph == "" {
		return
	}
	g, err := h.graphs.get(h.state.graph, false)
	if err != nil {
		return
	}
	c := &change{}
	h.desireFacts(c, d, g)
	if err := h.commit(c); err != nil {
		h.log.Error("desired document not stored", "device", d.id().String(), "error", err)
	}
}

// offerBase replaces a patch that a device refused, because it has another
// version than it had said, by a base; h.mu is held.
func (h *Hub) offerBase(d *device, refused string) {
	if d.Desired == nil || d.Desired.Facts == nil || d.Desired.Facts.From == 0 || d.Desired.Facts.Manifest != refused {
		return
	}
	g, err := h.graphs.get(d.Desired.Facts.Name, false)
	if err != nil {
		return
	}
	o, err := h.artefact(context.Background(), g, 0)
	if err != nil {
		h.log.Error("facts not offered", "device", d.id().String(), "graph", g.Name(), "error", err)
		return
	}
	c := &change{}
	c.desire(d, 0, func(w *wire.Desired) { w.Facts = &o })
	if err := h.commit(c); err != nil {
		h.log.Error("desired document not stored", "device", d.id().String(), "error", err)
	}
	h.wakeSpeaker()
}

// Graphs lists the graphs.
func (h *Hub) Graphs() ([]api.Graph, error) {
	var out []api.Graph
	for _, g := range h.graphs.list() {
		v := graphView(g)
		h.graphs.mu.Lock()
		v.Manifest = h.graphs.made[step{g.Name(), 0, v.Version}].Manifest
		h.graphs.mu.Unlock()
		out = append(out, v)
	}
	return out, nil
}

// maxDescribe bounds the facts of one description.
const maxDescribe = 1000

// Describe returns what a graph says of an entity; "" is the graph that
// devices have.
func (h *Hub) Describe(name, iri string) ([]facts.Answer, error) {
	if name == "" {
		h.mu.Lock()
		name = h.state.graph
		h.mu.Unlock()
	}
	if name == "" {
		return nil, nil // nothing was imported yet
	}
	g, err := h.graphs.get(name, false)
	if err != nil {
		return nil, err
	}
	version, entity := g.Latest(), facts.Resource(iri)
	found, err := g.Describe(version, entity, 1, maxDescribe)
	if err != nil {
		return nil, err
	}
	// first returns an object of a subject's predicate, "" where it has none.
	first := func(s facts.Term, predicate string) string {
		if s.Kind == facts.Literal {
			return ""
		}
		named, err := g.Match(version, s, facts.Resource(predicate), facts.Term{}, 1)
		if err != nil || len(named) == 0 {
			return ""
		}
		return named[0].O.Value
	}
	source := cmp.Or(first(entity, facts.DCTermsSource), name)
	var out []facts.Answer
	for _, f := range found {
		a := facts.Answer{
			Subject: f.S.Value, Predicate: f.P.Value, Label: cmp.Or(first(f.P, facts.RDFSLabel), lastPart(f.P.Value)), Object: f.O.Value,
			Source: source, Graph: name + "@" + strconv.FormatInt(version, 10),
		}
		if f.O.Kind == facts.IRI {
			a.ObjectIRI, a.Object = f.O.Value, cmp.Or(first(f.O, facts.RDFSLabel), f.O.Value)
		}
		out = append(out, a)
	}
	return out, nil
}

// lastPart returns the end of an IRI, after the last "/" or "#".
func lastPart(iri string) string {
	for i := len(iri) - 1; i >= 0; i-- {
		if iri[i] == '/' || iri[i] == '#' {
			return iri[i+1:]
		}
	}
	return iri
}
