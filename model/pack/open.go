package pack

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"dunlin/internal/oci"
	"dunlin/model"
)

// Model is a pack that was opened. Its tensors are valid until Close, and
// must not be written to: they may lie in memory that is mapped read-only.
type Model struct {
	Pack
	Digest string // of the manifest
	Size   int64  // bytes of the manifest and all its blobs

	blobs []*blob
}

// Close unmaps the weights. No tensor of the model, nor of anything that
// shares its constants (a clone of the graph), may be read after it.
func (m *Model) Close() error {
	var errs []error
	for _, b := range m.blobs {
		errs = append(errs, b.close())
	}
	m.blobs = nil
	return errors.Join(errs...)
}

// Forget lets go of the memory that mapped tensors take, once a program has
// what it needs of them in a form of its own. They stay valid: what is read
// of them later comes from the file again.
func (m *Model) Forget() {
	for _, b := range m.blobs {
		b.forget()
	}
}

// Open reads the pack with that manifest digest. Every blob is hashed, then
// checked; the weights are mapped into memory where the system can. An error
// is an *Error that wraps *oci.DigestError where a byte is not what the
// digests say, ErrFormat where the bytes are no pack, and fs.ErrNotExist
// where a blob is absent.
func Open(l *oci.Layout, manifest string) (*Model, error) {
	r := &reader{layout: l, model: &Model{Digest: manifest}, name: clip(manifest)}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.model.Close())
	}
	return r.model, nil
}

// ReadDir opens the newest pack of the OCI layout in a folder: the one whose
// manifest was put into the index last.
func ReadDir(dir string) (*Model, error) {
	l, err := oci.Open(dir)
	if err != nil {
		return nil, &Error{Pack: dir, Part: "layout", Err: err, Hint: "a packed model is a folder with oci-layout and index.json in it"}
	}
	d, err := Newest(l)
	if err != nil {
		return nil, err
	}
	return Open(l, string(d.Digest))
}

// Newest returns the index entry of the pack that was put into the layout
// last.
func Newest(l *oci.Layout) (oci.Descriptor, error) {
	x, err := l.Index()
	if err != nil {
		return oci.Descriptor{}, &Error{Pack: l.Dir(), Part: "index", Err: err}
	}
	for i := len(x.Manifests) - 1; i >= 0; i-- {
		d := x.Manifests[i]
		if d.ArtifactType == ArtifactType {
			return d, nil
		}
		// Other tools may leave the artifact type out of the index.
		if m, err := l.Manifest(d.Digest); err == nil && d.ArtifactType == "" && m.ArtifactType == ArtifactType {
			return d, nil
		}
	}
	return oci.Descriptor{}, &Error{Pack: l.Dir(), Part: "index", Err: invalid("no model among its %d manifests", len(x.Manifests))}
}

type reader struct {
	layout *oci.Layout
	model  *Model
	name   string
	parts  map[string]oci.Descriptor // by file name, as the media type says
}

func (r *reader) fail(part string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Pack: r.name, Part: part, Err: err}
	if errors.As(err, new(*oci.DigestError)) {
		e.Hint = "the file is damaged, or not the one that was signed: fetch it again"
	}
	return e
}

func (r *reader) open() error {
	if err := r.manifest(); err != nil {
		return err
	}
	for _, step := range []func() error{r.first, r.opaque, r.labels, r.small} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// manifest reads the manifest and the config, and hashes layers that it does
// not know: they belong to what was signed.
func (r *reader) manifest() error {
	d, err := oci.ParseDigest(r.model.Digest)
	if err != nil {
		return r.fail("manifest", err)
	}
	data, err := r.layout.ReadBlob(d, oci.MaxManifest)
	if err != nil {
		return r.fail("manifest", err)
	}
	m, err := oci.ParseManifest(data)
	if err != nil {
		return r.fail("manifest", fmt.Errorf("%w: %w", ErrFormat, err))
	}
	if m.ArtifactType != ArtifactType || m.Config.MediaType != MediaTypeConfig {
		return r.fail("manifest", invalid("it is a %q with config %q, not a model", clip(m.ArtifactType), clip(m.Config.MediaType)))
	}
	r.model.Name = m.Annotations[oci.AnnotationTitle]
	version := m.Annotations[oci.AnnotationVersion]
	r.model.Version, err = strconv.ParseInt(version, 10, 64)
	if err != nil || strconv.FormatInt(r.model.Version, 10) != version {
		return r.fail("manifest", invalid("version %q", clip(version)))
	}
	if err := checkName(r.model.Name, r.model.Version); err != nil {
		return r.fail("manifest", err)
	}
	r.model.Size = int64(len(data)) + m.Config.Size
	text, err := r.read(m.Config, maxConfig)
	if err != nil {
		return r.fail("config", err)
	}
	if err := checkConfig(text, m); err != nil {
		return r.fail("config", err)
	}
	return r.sort(m)
}

// sort finds the layers by media type.
func (r *reader) sort(m *oci.Manifest) error {
	r.parts = map[string]oci.Descriptor{}
	known := map[string]layer{}
	for _, l := range layers {
		known[l.media] = l
		if l.newer != "" {
			known[l.newer] = l
		}
	}
	for _, d := range m.Layers {
		r.model.Size += d.Size
		l, ok := known[d.MediaType]
		if !ok {
			if err := r.layout.VerifyBlob(d); err != nil {
				return r.fail(clip(d.MediaType), err)
			}
			continue
		}
		if _, twice := r.parts[l.file]; twice {
			return r.fail(l.file, invalid("the manifest has it twice"))
		}
		if d.Size > l.max {
			return r.fail(l.file, invalid("%d bytes, at most %d", d.Size, l.max))
		}
		r.parts[l.file] = d
	}
	for _, l := range layers {
		if _, ok := r.parts[l.file]; l.must && !ok {
			return r.fail(l.file, invalid("the manifest does not have it"))
		}
	}
	return nil
}

// read returns a blob that was hashed and has the size that its descriptor
// says.
func (r *reader) read(d oci.Descriptor, limit int64) ([]byte, error) {
	data, err := r.layout.ReadBlob(d.Digest, limit)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != d.Size {
		return nil, &oci.DigestError{Want: d.Digest, Size: int64(len(data))}
	}
	return data, nil
}

// part returns a JSON blob, nil where the pack has none.
func (r *reader) part(file string) ([]byte, error) {
	d, ok := r.parts[file]
	if !ok {
		return nil, nil
	}
	data, err := r.read(d, layerOf(file).max)
	return data, r.fail(file, err)
}

// tensors maps a safetensors blob, hashes what is mapped, and reads it.
func (r *reader) tensors(file string) (map[string]*model.Tensor, error) {
	d, ok := r.parts[file]
	if !ok {
		return nil, nil
	}
	b, err := mapBlob(r.layout, d)
	if err != nil {
		return nil, r.fail(file, err)
	}
	r.model.blobs = append(r.model.blobs, b)
	if err := oci.Check(d, b.data); err != nil {
		return nil, r.fail(file, err)
	}
	b.forget()
	all, err := decodeTensors(b.data)
	return all, r.fail(file, err)
}

func (r *reader) first() (err error) {
	if r.model.Graph, err = r.graph(firstForm); err != nil {
		return err
	}
	r.model.Exam, err = r.exam(firstForm)
	return err
}

// small reads the small form, where there is one. Half of one is none, and
// what is signed must not be half.
func (r *reader) small() error {
	files := []string{smallForm.graph, smallForm.weights, smallForm.exam, smallForm.examData}
	there := func(file string) bool { _, ok := r.parts[file]; return ok }
	if !slices.ContainsFunc(files, there) {
		return nil
	}
	for _, file := range files[:2] {
		if !there(file) {
			return r.fail(file, invalid("the manifest does not have it, and has other parts of a small form"))
		}
	}
	var f Form
	var err error
	if f.Graph, err = r.graph(smallForm); err != nil {
		return err
	}
	if err := checkForm(f.Graph, r.model.Graph); err != nil {
		return r.fail(smallForm.graph, err)
	}
	f.Exam, err = r.exam(smallForm)
	r.model.Small = &f
	return err
}

func (r *reader) graph(f formFiles) (*model.Graph, error) {
	weights, err := r.tensors(f.weights)
	if err != nil {
		return nil, err
	}
	data, err := r.part(f.graph)
	if err != nil {
		return nil, err
	}
	d := &graphReader{refs: weights, packed: r.parts[f.graph].MediaType == layerOf(f.graph).newer}
	g, err := d.decode(data)
	return g, r.fail(f.graph, err)
}

func (r *reader) opaque() error {
	for _, part := range []struct {
		file string
		to   *json.RawMessage
	}{
		{filePipeline, &r.model.Pipeline},
		{fileQuant, &r.model.Quant},
		{fileReport, &r.model.Report},
		{fileProvenance, &r.model.Provenance},
	} {
		data, err := r.part(part.file)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if err := scan(data); err != nil {
			return r.fail(part.file, err)
		}
		if !json.Valid(data) || !utf8.Valid(data) {
			return r.fail(part.file, invalid("it is not JSON"))
		}
		*part.to = data
	}
	return nil
}

func (r *reader) labels() error {
	for _, part := range []struct {
		file string
		to   any
	}{{fileLabels, &r.model.Labels}, {fileEntities, &r.model.Entities}} {
		data, err := r.part(part.file)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		if err := unmarshal(data, part.to); err != nil {
			return r.fail(part.file, err)
		}
	}
	return nil
}

func (r *reader) exam(f formFiles) (*Exam, error) {
	text, err := r.part(f.exam)
	if err != nil {
		return nil, err
	}
	answers, err := r.tensors(f.examData)
	if err != nil || text == nil {
		return nil, err
	}
	e, err := decodeExam(text, answers)
	return e, r.fail(f.exam, err)
}
