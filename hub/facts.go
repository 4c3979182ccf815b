package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/graph"
	"dunlin/facts/rdf"
	"dunlin/hub/api"
	"dunlin/sync/wire"
)

// MediaTypeFacts is the artifact type of a facts manifest. Its one layer is a
// base or a patch (facts/cache has their media types), its title and version
// annotations are the graph's.
const MediaTypeFacts = "application/vnd.dunlin.facts.v1"

const maxGraph = 63 // bytes of its name

// graphRule makes a graph's name safe as a folder's.
var graphRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// graphs are the open graphs, each in a folder of its own.
type graphs struct {
	dir      string
	building sync.Mutex // held while an artefact is made; taken before mu, and never under Hub.mu
	mu       sync.Mutex // guards what follows; held while a graph is opened
	all      map[string]*graph.Graph
	made     map[step]wire.Offer // artefacts made since the start, and not removed
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
		if e.IsDir() && len(e.Name()) <= maxGraph && graphRule.MatchString(e.Name()) {
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
	if len(name) > maxGraph || !graphRule.MatchString(name) {
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

// maxDocument bounds the name of a document in bytes.
const maxDocument = 1024

// ImportFacts adds N-Triples to a graph, or makes the graph hold them alone,
// and offers the version that has them to every device: a patch where the
// device said which version it has and a patch from there is smaller, else a
// base.
//
// document names what the facts were read from: a blank node is the same in
// every import of one document, and in no other. "" takes the SHA-256 of the
// text, so that the same text is the same document.
func (h *Hub) ImportFacts(ctx context.Context, name, document string, triples io.Reader, replace bool) (api.Graph, error) {
	if len(document) > maxDocument || !utf8.ValidString(document) {
		return api.Graph{}, fmt.Errorf("document %.80q: %w: want UTF-8 of at most %d bytes", document, api.ErrInvalid, maxDocument)
	}
	g, err := h.graphs.get(name, true)
	if err != nil {
		return api.Graph{}, err
	}
	text, digest, err := h.spool(triples)
	if err != nil {
		return api.Graph{}, fmt.Errorf("import into graph %s: %w", name, err)
	}
	defer text.Close()
	take := g.Import
	if replace {
		take = g.Replace
	}
	from := facts.Provenance{Document: cmp.Or(document, digest), Confidence: 1}
	version, err := take(ctx, rdf.NewReader(text).All(), from)
	if err != nil {
		return api.Graph{}, blame(err)
	}
	if version == 0 {
		return api.Graph{}, fmt.Errorf("%w: graph %s: no facts", api.ErrInvalid, name)
	}
	return h.offerGraph(ctx, g)
}

// spool copies the text of an import to a file without a name, so that a slow
// upload holds up no other import, and returns its digest.
func (h *Hub) spool(r io.Reader) (_ *os.File, digest string, err error) {
	f, err := os.CreateTemp(h.o.Dir, "import-*")
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, sum), &received{r}); err != nil {
		return nil, "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, "", err
	}
	return f, "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// received marks the errors of a request's body as the sender's; those of the
// disk are the hub's.
type received struct{ r io.Reader }

func (b *received) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return n, err
}

// blame marks an error that the text of an import is the cause of, as
// api.ErrInvalid. Any other, a full disk for one, is the hub's own.
func blame(err error) error {
	var syntax *rdf.SyntaxError
	var term *cache.TermError
	if errors.As(err, &syntax) || errors.As(err, &term) || errors.Is(err, cache.ErrTooLarge) {
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	return err
}

func graphView(g *graph.Graph) api.Graph {
	out := api.Graph{Name: g.Name()}
	if all := g.Versions(); len(all) > 0 {
		i := all[len(all)-1]
		out.Version, out.Facts, out.Added, out.Removed, out.Changed = i.Version, i.Facts, i.Added, i.Deleted, i.Time
		out.Document = i.Provenance.Document
	}
	return out
}

// Graphs lists the graphs.
func (h *Hub) Graphs() ([]api.Graph, error) {
	var out []api.Graph
	for _, g := range h.graphs.list() {
		v := graphView(g)
		base, _ := h.graphs.offer(step{g.Name(), 0, v.Version})
		v.Manifest = base.Manifest
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
