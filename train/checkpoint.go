package train

import (
	"bytes"
	"crypto/sha256"
	byteorder "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"

	"dunlin/internal/durable"
)

// A checkpoint is all that a training needs to go on with the same bits:
//
//	0          8          12               12+H
//	+----------+----------+----------------+-------------------+---------+
//	| magic    | H, u32   | JSON, H bytes  | float32 values    | SHA-256 |
//	+----------+----------+----------------+-------------------+---------+
//
// all little-endian. The JSON says which lists the values are, in order:
// parameters, statistics of norms, moments of the optimiser, and, where
// patience is counted, parameters and statistics of the best epoch. The sum is
// that of everything before it. The seeds are among the settings: with the
// numbers of epoch, step and forward pass they are the state of all
// randomness.
//
// It is written by durable.WriteFile: whenever the process or the power goes,
// the file is the one before or the new one.

const (
	checkpointMagic = "dunlinC1"
	maxHeader       = 16 << 20 // bytes of JSON: the records of 50,000 epochs
)

// ErrNotResumable is returned, wrapped, for a checkpoint of another training.
var ErrNotResumable = errors.New("the checkpoint is of another training")

// setting is something on which a training's result depends.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// header is the JSON of a checkpoint.
type header struct {
	Settings []setting `json:"settings"`
	State    fitState  `json:"state"`
	Lists    []list    `json:"lists"`
}

// list is the name and the length of a list of values.
type list struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// checkpoint is a checkpoint in memory.
type checkpoint struct {
	header
	values [][]float32 // for each of Lists
}

// encode returns the file.
func (c *checkpoint) encode() ([]byte, error) {
	text, err := json.Marshal(c.header)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes, at most %d", len(text), maxHeader)
	}
	size := len(checkpointMagic) + 4 + len(text) + sha256.Size
	for _, v := range c.values {
		size += 4 * len(v)
	}
	b := append(make([]byte, 0, size), checkpointMagic...)
	b = byteorder.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	for _, v := range c.values {
		for _, x := range v {
			b = byteorder.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// parseCheckpoint reads a file. It takes memory in proportion to b.
func parseCheckpoint(b []byte) (*checkpoint, error) {
	start := len(checkpointMagic) + 4
	if len(b) < start+sha256.Size || string(b[:len(checkpointMagic)]) != checkpointMagic {
		return nil, errors.New("it is no checkpoint of this version of dunlin")
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return nil, errors.New("its bytes do not fit its checksum: it is damaged")
	}
	n := byteorder.LittleEndian.Uint32(b[len(checkpointMagic):])
	if n > maxHeader || int(n) > len(body)-start {
		return nil, fmt.Errorf("a header of %d bytes in a file of %d", n, len(b))
	}
	c := &checkpoint{}
	d := json.NewDecoder(bytes.NewReader(body[start : start+int(n)]))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("header: there is more behind it")
	}
	return c, c.readValues(body[start+int(n):])
}

// readValues reads the lists that the header names.
func (c *checkpoint) readValues(data []byte) error {
	for _, l := range c.Lists {
		if l.Count < 0 || l.Count > len(data)/4 {
			return fmt.Errorf("list %q has %d values, %d bytes are left", l.Name, l.Count, len(data))
		}
		v := make([]float32, l.Count)
		for i := range v {
			v[i] = math.Float32frombits(byteorder.LittleEndian.Uint32(data[4*i:]))
		}
		c.values = append(c.values, v)
		data = data[4*l.Count:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes are left behind the last list", len(data))
	}
	return nil
}

// lists returns what a checkpoint holds of f, in order: the training's own
// memory. best says whether the best epoch's weights are there.
func (f *fit) lists(best bool) ([]list, [][]float32) {
	var names []list
	var values [][]float32
	add := func(name string, v []float32) {
		names, values = append(names, list{name, len(v)}), append(values, v)
	}
	weights := append(append([]*Parameter{}, f.net.Parameters()...), f.net.Statistics()...)
	for _, p := range weights {
		add(p.Name, p.Value)
	}
	for i, m := range f.optimiser.state.moments {
		add(fmt.Sprintf("moment %d", i), m)
	}
	if best {
		for i, p := range weights {
			add("best "+p.Name, f.best[i])
		}
	}
	return names, values
}

// save writes a checkpoint where one is wanted.
func (f *fit) save() error {
	if f.o.Checkpoint == "" {
		return nil
	}
	c := &checkpoint{header: header{Settings: f.settings, State: f.state}}
	c.State.Forwards = f.net.Forwards()
	c.Lists, c.values = f.lists(len(f.best) > 0)
	data, err := c.encode()
	if err == nil {
		err = durable.WriteFile(f.o.Checkpoint, data, 0o666)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", f.o.Checkpoint, err)
	}
	return nil
}

// resume takes up the training where its checkpoint left it. Where it fails,
// nothing has changed.
func (f *fit) resume() error {
	c, err := f.read(f.o.Checkpoint)
	if err == nil {
		err = f.take(c)
	}
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", f.o.Checkpoint, err)
	}
	return nil
}

// read reads a file no larger than a checkpoint of this training can be.
func (f *fit) read(path string) (*checkpoint, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	most := int64(len(checkpointMagic) + 4 + maxHeader + sha256.Size)
	_, values := f.lists(false)
	for _, v := range values {
		most += 8 * int64(len(v)) // those of the best epoch may come on top
	}
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%w: it has more than %d bytes, more than this net needs", ErrNotResumable, most)
	}
	return parseCheckpoint(data)
}

// take makes a checkpoint's state that of the training, once all of it fits.
func (f *fit) take(c *checkpoint) error {
	for i, s := range f.settings {
		if i >= len(c.Settings) || c.Settings[i].Name != s.Name {
			return fmt.Errorf("%w: it says nothing of %s: delete it to begin anew", ErrNotResumable, s.Name)
		}
		if have := c.Settings[i].Value; have != s.Value {
			return fmt.Errorf("%w: its %s was %s, now it is %s: go on with what it was, or delete the file to begin anew", ErrNotResumable, s.Name, have, s.Value)
		}
	}
	if extra := len(c.Settings) - len(f.settings); extra > 0 {
		return fmt.Errorf("%w: it has %s, this one has none", ErrNotResumable, c.Settings[len(f.settings)].Name)
	}
	best := c.State.BestEpoch > 0
	if best {
		f.best = nil
		for _, w := range f.weights() {
			f.best = append(f.best, make([]float32, len(w)))
		}
	}
	names, values := f.lists(best)
	if len(names) != len(c.Lists) {
		return fmt.Errorf("%w: it has %d lists of values, this net and optimiser have %d", ErrNotResumable, len(c.Lists), len(names))
	}
	for i, l := range c.Lists {
		if l != names[i] {
			return fmt.Errorf("%w: list %d is %s with %d values, this net has %s with %d", ErrNotResumable, i, l.Name, l.Count, names[i].Name, names[i].Count)
		}
	}
	if err := c.State.check(f.perEpoch, f.o); err != nil {
		return fmt.Errorf("%w: %w: delete it to begin anew", ErrNotResumable, err)
	}
	for i, v := range c.values {
		copy(values[i], v)
	}
	f.state = c.State
	f.optimiser.state.steps = f.steps()
	f.net.SetForwards(c.State.Forwards)
	return nil
}

// check fails on a state that no training of these options comes to.
func (s *fitState) check(perEpoch int, o FitOptions) error {
	best := s.BestEpoch >= 0 && s.BestEpoch <= s.Epoch && (s.BestEpoch > 0) == (o.Patience > 0 && s.Epoch > 0)
	if s.Epoch < 0 || s.Epoch > o.Epochs || s.Step < 0 || s.Step > perEpoch || s.Samples < 0 || len(s.Record) != s.Epoch || !best {
		return fmt.Errorf("epoch %d, step %d, %d records, best epoch %d: no training comes to that", s.Epoch, s.Step, len(s.Record), s.BestEpoch)
	}
	if s.Stopped != (o.Patience > 0 && s.Epoch > 0 && s.Epoch-s.BestEpoch >= o.Patience) {
		return fmt.Errorf("epoch %d, best epoch %d, stopped %v: no training comes to that", s.Epoch, s.BestEpoch, s.Stopped)
	}
	for i, e := range s.Record {
		if e.Epoch != i+1 {
			return fmt.Errorf("record %d is of epoch %d", i, e.Epoch)
		}
	}
	return nil
}

// describe returns all on which the training depends, for people to read.
func (f *fit) describe() []setting {
	o, n := f.o, f.net
	all := []setting{
		{"network", n.graph.Name},
		{"batch", fmt.Sprint(n.Batch())},
		{"data", fingerprint(f.data)},
		{"loss", o.Loss.String()},
		{"optimiser", fmt.Sprintf("%+v", o.Optimiser.defaults())},
		{"schedule", fmt.Sprintf("%+v", o.Schedule)},
		{"epochs", o.epochs()},
		{"seed", fmt.Sprintf("%d, of dropout %d", o.Seed, n.options.Seed)},
		{"augmentation", fmt.Sprintf("%d steps", len(o.Augment))},
		{"whole batches", fmt.Sprint(o.WholeBatches)},
		{"patience", fmt.Sprint(o.Patience)},
		{"recipe", o.Recipe},
	}
	if o.Test != nil {
		all = append(all, setting{"test data", fingerprint(o.Test)})
	}
	return all
}

// epochs says how many there are where the rate of a step depends on it; where
// not, a training may go on for more.
func (o FitOptions) epochs() string {
	if o.Schedule.Shape == Cosine || o.Schedule.Shape == Linear {
		return fmt.Sprint(o.Epochs)
	}
	return "any number"
}

// fingerprint names a set of samples by what is in it.
func fingerprint(d *Data) string {
	h := sha256.New()
	for i := range d.Inputs {
		c := &d.Inputs[i]
		fmt.Fprintln(h, c.Shape, c.Scale, c.Mean, c.Std, c.Border)
		hashFloats(h, c.Floats)
		h.Write(c.Bytes)
	}
	hashFloats(h, d.Values)
	hashFloats(h, d.Teacher)
	for _, class := range d.Classes {
		var b [4]byte
		byteorder.LittleEndian.PutUint32(b[:], uint32(class))
		h.Write(b[:])
	}
	return fmt.Sprintf("%d samples, %s", d.Len(), hex.EncodeToString(h.Sum(nil)[:8]))
}

// hashFloats adds values to h.
func hashFloats(h hash.Hash, list []float32) {
	var b [4096]byte
	for len(list) > 0 {
		n := min(len(list), len(b)/4)
		for i, v := range list[:n] {
			byteorder.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
		}
		h.Write(b[:4*n])
		list = list[n:]
	}
}
