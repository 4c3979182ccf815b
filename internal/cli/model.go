package cli

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dunlin/engine"
	"dunlin/model"
	"dunlin/model/onnx"
	"dunlin/model/pack"
	"dunlin/model/prep"
	"dunlin/model/tflite"
)

func modelCommand() *cobra.Command {
	return group("model", "Run, measure, compress, sign and publish models",
		modelRunCommand(), modelBenchCommand(), modelInspectCommand(), modelCompareCommand(), modelExplainCommand(),
		modelCompressCommand(), modelReportCommand(), modelEvalCommand(), modelSignCommand(), modelPushCommand(), modelConformanceCommand())
}

// loaded is a model from any of the forms that dunlin reads. pack is nil for
// a foreign file.
type loaded struct {
	path  string
	graph *model.Graph
	pack  *pack.Model
	shelf *shelf // where compress has its weights, or nil
}

// sum returns the SHA-256 of the file, of the manifest for a pack.
func (m *loaded) sum() (string, error) {
	if m.pack != nil {
		return m.pack.Digest, nil
	}
	f, err := os.Open(m.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// importers are the formats of foreign files, by how a file's name ends.
var importers = map[string]func(data []byte) (*model.Graph, error){
	".onnx":   onnx.Import,
	".tflite": tflite.Import,
}

// load reads an .onnx or .tflite file or a packed model's folder.
func load(path string) (*loaded, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(loadGC))
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		p, err := pack.ReadDir(path)
		if err != nil {
			return nil, err
		}
		return &loaded{path: path, graph: p.Graph, pack: p}, nil
	}
	ext := strings.ToLower(filepath.Ext(path))
	read, ok := importers[ext]
	if !ok {
		return nil, withHint(fmt.Errorf("model %s: files that end in %q are not read", path, ext),
			"give an .onnx or a .tflite file, or the folder of a packed model")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	g, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", path, err)
	}
	return &loaded{path: path, graph: g}, nil
}

// close unmaps a packed model's weights.
func (m *loaded) close() {
	if m.pack != nil {
		m.pack.Close()
	}
}

// spec returns the preprocessing: of the file given, else of the pack, else
// of prep.toml beside the model. files returns where its labels and entities
// are looked for, "" for a pack, which holds them itself.
func (m *loaded) spec(file string) (s prep.Spec, dir string, err error) {
	if file == "" && m.pack != nil && len(m.pack.Pipeline) > 0 {
		s, err = prep.ParseJSON(m.pack.Pipeline)
		return s, "", err
	}
	if file == "" {
		file = filepath.Join(filepath.Dir(m.path), "prep.toml")
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, "", withHint(fmt.Errorf("preprocessing of %s: %w", m.path, err),
			"describe how a picture becomes the network's input in a prep.toml (dunlin init DIR writes one to start from)")
	}
	if err != nil {
		return s, "", err
	}
	s, err = prep.ParseTOML(text)
	if err != nil {
		return s, "", fmt.Errorf("%s: %w", file, err)
	}
	return s, filepath.Dir(file), nil
}

// inputFlags are --input and --shape, as run and bench take them.
type inputFlags struct{ files, shapes []string }

func (f *inputFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.files, "input", nil, "`KEY=FILE`: raw little-endian row-major tensor for the input of that name or index")
	c.Flags().StringArrayVar(&f.shapes, "shape", nil, "`KEY=1,3,224,224`: shape of the input of that name or index")
}

// inputKey splits KEY=VALUE at the last "=" and finds the input that KEY
// names: a name wins over an index.
func inputKey(g *model.Graph, arg string) (name, value string, err error) {
	cut := strings.LastIndexByte(arg, '=')
	if cut < 0 {
		return "", "", usagef("%q: want KEY=VALUE, KEY being the name or the index of an input", arg)
	}
	key, value := arg[:cut], arg[cut+1:]
	for _, in := range g.Inputs {
		if in == key {
			return in, value, nil
		}
	}
	if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(g.Inputs) {
		return g.Inputs[i], value, nil
	}
	return "", "", usagef("%q: the model has no input %q; it has %s", arg, key, strings.Join(g.Inputs, ", "))
}

// resolve returns the shape of every input and the bytes given for some. An
// axis that the model leaves open has the length that --shape says, or that
// the size of the file asks for where one only is open, or 1 where ones is
// set.
func (f *inputFlags) resolve(g *model.Graph, ones bool) (shapes map[string]model.Shape, data map[string][]byte, err error) {
	shapes, data = map[string]model.Shape{}, map[string][]byte{}
	for _, arg := range f.files {
		name, file, err := inputKey(g, arg)
		if err != nil {
			return nil, nil, err
		}
		if data[name] != nil {
			return nil, nil, usagef("input %q is given twice", name)
		}
		if data[name], err = os.ReadFile(file); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range g.Inputs {
		if data[name] == nil && !ones {
			return nil, nil, usagef("input %q has no --input", name)
		}
	}
	for _, arg := range f.shapes {
		name, text, err := inputKey(g, arg)
		if err != nil {
			return nil, nil, err
		}
		if shapes[name], err = parseShape(text); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range g.Inputs {
		if shapes[name] != nil {
			continue
		}
		v := g.Value(name)
		shape, ok := fill(v, data[name], ones)
		if !ok {
			return nil, nil, withHint(fmt.Errorf("input %q: %d bytes do not tell its shape %v of %v, -1 being open", name, len(data[name]), v.Shape, v.Type),
				"say --shape '%s=…'", name)
		}
		shapes[name] = shape
	}
	return shapes, data, nil
}

func parseShape(text string) (model.Shape, error) {
	shape := model.Shape{}
	for field := range strings.SplitSeq(text, ",") {
		if text == "" {
			break // a single value has no axes
		}
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 0 {
			return nil, usagef("shape %q: %q is no length", text, field)
		}
		shape = append(shape, n)
	}
	return shape, nil
}

// fill closes the open axes of v's shape.
func fill(v *model.Value, data []byte, ones bool) (model.Shape, bool) {
	if v.Shape == nil {
		return nil, false
	}
	shape, open, known := append(model.Shape{}, v.Shape...), []int{}, 1
	for i, d := range shape {
		if d == model.Unknown {
			open = append(open, i)
		} else {
			known *= d
		}
	}
	switch size := known * v.Type.Size(); {
	case len(open) == 0:
	case len(open) == 1 && data != nil && size > 0 && len(data)%size == 0:
		shape[open[0]] = len(data) / size
	case ones:
		for _, i := range open {
			shape[i] = 1
		}
	default:
		return nil, false
	}
	return shape, true
}

// loadGC is the garbage collector's percentage while a command loads a model
// to run it: passes over a graph leave more behind than they keep, and at the
// usual 100 a small board would need twice the memory for a moment. A run
// allocates nothing, so nothing is slower for it.
const loadGC = 25

// session compiles the model for these shapes and writes data to its inputs.
// The model gives up its graph: a program has what it needs of it in a form
// of its own, and the bytes of a foreign file make room for the arena.
func (m *loaded) session(shapes map[string]model.Shape, data map[string][]byte, o engine.Options) (*engine.Program, *engine.Session, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(loadGC))
	o.Shapes = shapes
	p, err := engine.Compile(m.graph, o)
	if err != nil {
		return nil, nil, explain(err)
	}
	m.graph = nil
	if m.pack != nil {
		m.pack.Graph, m.pack.Exam = nil, nil
		m.pack.Forget()
	}
	runtime.GC()
	s := p.NewSession()
	return p, s, feed(p, s, data)
}

// session compiles g for these shapes.
func session(g *model.Graph, shapes map[string]model.Shape, o engine.Options) (*engine.Program, *engine.Session, error) {
	o.Shapes = shapes
	p, err := engine.Compile(g, o)
	if err != nil {
		return nil, nil, explain(err)
	}
	return p, p.NewSession(), nil
}

// feed writes data to the inputs of those names.
func feed(p *engine.Program, s *engine.Session, data map[string][]byte) error {
	for i, port := range p.Inputs() {
		given, ok := data[port.Name]
		if !ok {
			continue
		}
		in := s.Input(i)
		if len(given) != len(in.Data) {
			return fmt.Errorf("input %q: %d bytes given, %v %v has %d", port.Name, len(given), in.Type, in.Shape, len(in.Data))
		}
		copy(in.Data, given)
	}
	return nil
}

// table prints rows in columns, the first row as a heading.
func table(w io.Writer, rows [][]string) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-len([]rune(cell))+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}
