// Package pack is the file in which a model travels: an OCI image layout
// with one manifest for each model, and a blob for each part of it. The
// weights are safetensors that can be mapped into memory, the graph and the
// rest are small JSON files. docs/FORMAT.md describes every byte.
//
// Start with Write, Open and Sign; Exam.Check asks whether this machine gives
// the answers that the pack promises.
//
// The promise: what Open returns was hashed, and the hashes lead to the one
// digest that is signed; every offset, length, type and shape was checked
// before use, so that hostile bytes give an *Error and never a panic, nor
// more memory than MaxItems and the file's own size allow. The same Pack
// always gives the same digest.
//
// The package runs nothing: whoever has an engine computes the exam. It
// trusts nobody either: Open does not look at signatures (see Signature and
// sign.Trust).
package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"dunlin/internal/oci"
	"dunlin/model"
)

// Pack is a model with all that is needed to use it.
type Pack struct {
	Name    string // [A-Za-z0-9][A-Za-z0-9._-]*, at most 128 bytes
	Version int64  // at least 1; a newer one is greater
	Graph   *model.Graph

	// JSON that this package carries but does not read; nil where there is none.
	Pipeline   json.RawMessage // prep.Spec: how pictures become inputs and outputs labels
	Quant      json.RawMessage // how it was quantised
	Report     json.RawMessage // what was measured
	Provenance json.RawMessage // what it was made from

	Labels   []string          // label of each class, by index
	Entities map[string]string // label -> IRI of what it means
	Exam     *Exam             // nil: none

	Small *Form // nil: none
}

// Form is another network for the same question: smaller, and less often
// right. A device that is too hot, or short of memory, may let it answer. Its
// inputs and outputs are those of the Pack's graph, by name and in order, and
// of the same types and shapes, so that all else of the Pack serves both.
type Form struct {
	Graph *model.Graph
	Exam  *Exam // nil: none
}

// checkForm fails where f does not stand in for g.
func checkForm(f, g *model.Graph) error {
	for _, list := range []struct {
		what       string
		small, all []string
	}{{"inputs", f.Inputs, g.Inputs}, {"outputs", f.Outputs, g.Outputs}} {
		if !slices.Equal(list.small, list.all) {
			return invalid("its %s are %.200q, the model's %.200q", list.what, list.small, list.all)
		}
	}
	for _, name := range slices.Concat(f.Inputs, f.Outputs) {
		a, b := f.Values[name], g.Values[name]
		if a == nil || b == nil || !a.Type.Valid() || !b.Type.Valid() {
			continue // whoever compiles them compares what is not said here
		}
		if a.Type != b.Type || a.Shape != nil && b.Shape != nil && !a.Shape.Equal(b.Shape) {
			return invalid("%q is %v %v, the model's %v %v", clip(name), a.Type, a.Shape, b.Type, b.Shape)
		}
	}
	return nil
}

// Error says which part of which pack cannot be used, or written.
type Error struct {
	Pack string // name or manifest digest
	Part string // file name of the blob, "manifest", "config"
	Err  error
	Hint string // one sentence for a person, or ""
}

func (e *Error) Error() string { return fmt.Sprintf("pack %s: %s: %v", e.Pack, e.Part, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// ErrFormat is returned where bytes have the right digest but are no pack,
// or one that passes a bound.
var ErrFormat = errors.New("not a valid pack")

func invalid(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, a...))
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func checkName(name string, version int64) error {
	if len(name) > 128 || !nameRule.MatchString(name) {
		return invalid("name %q: use up to 128 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\", the first a letter or a digit", clip(name))
	}
	if version < 1 {
		return invalid("version %d: the first is 1", version)
	}
	return nil
}

// Write stores a pack in a layout and puts its manifest at the end of the
// index. The same pack written twice gives the same descriptor. A pack that
// Open would refuse is an *Error.
func Write(l *oci.Layout, p *Pack) (oci.Descriptor, error) {
	w := &writer{layout: l, pack: p}
	if err := checkName(p.Name, p.Version); err != nil {
		return oci.Descriptor{}, w.fail("manifest", err)
	}
	for _, step := range []func() error{w.first, w.opaque, w.labels, w.exam, w.small} {
		if err := step(); err != nil {
			return oci.Descriptor{}, err
		}
	}
	return w.manifest()
}

type writer struct {
	layout *oci.Layout
	pack   *Pack
	layers []oci.Descriptor
}

func (w *writer) fail(part string, err error) error {
	return &Error{Pack: w.pack.Name, Part: part, Err: err}
}

func (w *writer) first() error { return w.graph(w.pack.Graph, firstForm) }

// small writes the small form.
func (w *writer) small() error {
	f := w.pack.Small
	if f == nil {
		return nil
	}
	if err := w.graph(f.Graph, smallForm); err != nil {
		return err
	}
	if err := checkForm(f.Graph, w.pack.Graph); err != nil {
		return w.fail(smallForm.graph, err)
	}
	return w.examOf(f.Exam, smallForm)
}

func (w *writer) graph(g *model.Graph, f formFiles) error {
	if g == nil {
		return w.fail(f.graph, invalid("there is no graph"))
	}
	e := newGraphWriter()
	text, err := e.encode(g)
	if err != nil {
		return w.fail(f.graph, err)
	}
	media := layerOf(f.graph).media
	if e.packed {
		media = layerOf(f.graph).newer
	}
	if err := w.jsonAs(f.graph, media, text); err != nil {
		return err
	}
	return w.tensors(f.weights, e.tensors)
}

func (w *writer) opaque() error {
	for _, part := range []struct {
		file string
		data json.RawMessage
	}{
		{filePipeline, w.pack.Pipeline},
		{fileQuant, w.pack.Quant},
		{fileReport, w.pack.Report},
		{fileProvenance, w.pack.Provenance},
	} {
		if part.data == nil {
			continue
		}
		var b bytes.Buffer
		if err := json.Compact(&b, part.data); err != nil {
			return w.fail(part.file, invalid("%w", err))
		}
		if err := w.json(part.file, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) labels() error {
	if len(w.pack.Labels) > 0 {
		if err := w.marshal(fileLabels, w.pack.Labels); err != nil {
			return err
		}
	}
	if len(w.pack.Entities) > 0 {
		return w.marshal(fileEntities, w.pack.Entities)
	}
	return nil
}

func (w *writer) exam() error { return w.examOf(w.pack.Exam, firstForm) }

func (w *writer) examOf(e *Exam, f formFiles) error {
	if e == nil {
		return nil
	}
	text, tensors, err := encodeExam(e)
	if err != nil {
		return w.fail(f.exam, err)
	}
	if err := w.json(f.exam, text); err != nil {
		return err
	}
	return w.tensors(f.examData, tensors)
}

func (w *writer) marshal(file string, v any) error {
	data, err := marshal(v)
	if err != nil {
		return w.fail(file, err)
	}
	return w.json(file, data)
}

func (w *writer) json(file string, data []byte) error {
	return w.jsonAs(file, layerOf(file).media, data)
}

func (w *writer) jsonAs(file, media string, data []byte) error {
	if err := scan(data); err != nil {
		return w.fail(file, err)
	}
	if limit := layerOf(file).max; int64(len(data)) > limit {
		return w.fail(file, invalid("%d bytes, at most %d", len(data), limit))
	}
	d, err := w.layout.PutBytes(media, data)
	return w.add(file, d, err)
}

func (w *writer) tensors(file string, all []named) error {
	size, r, err := encodeTensors(all)
	if err != nil {
		return w.fail(file, err)
	}
	if limit := layerOf(file).max; size > limit {
		return w.fail(file, invalid("%d bytes, at most %d", size, limit))
	}
	d, err := w.layout.Put(layerOf(file).media, r)
	return w.add(file, d, err)
}

func (w *writer) add(file string, d oci.Descriptor, err error) error {
	if err != nil {
		return w.fail(file, err)
	}
	d.Annotations = map[string]string{oci.AnnotationTitle: file, annotationFile: file}
	w.layers = append(w.layers, d)
	return nil
}

func (w *writer) manifest() (oci.Descriptor, error) {
	data, err := marshal(newConfig(w.pack, w.layers))
	if err != nil {
		return oci.Descriptor{}, w.fail("config", err)
	}
	config, err := w.layout.PutBytes(MediaTypeConfig, data)
	if err != nil {
		return oci.Descriptor{}, w.fail("config", err)
	}
	notes := map[string]string{
		oci.AnnotationTitle:   w.pack.Name,
		oci.AnnotationVersion: strconv.FormatInt(w.pack.Version, 10),
	}
	d, err := w.layout.PutManifest(&oci.Manifest{
		ArtifactType: ArtifactType, Config: config, Layers: w.layers, Annotations: notes,
	})
	if err != nil {
		return oci.Descriptor{}, w.fail("manifest", err)
	}
	d.Annotations = notes
	if err := w.layout.Add(d); err != nil {
		return oci.Descriptor{}, w.fail("manifest", err)
	}
	return d, nil
}

// marshal is json.Marshal that leaves <, > and & in names readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// clip bounds what of a stranger's text gets into an error.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
