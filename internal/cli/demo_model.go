package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"dunlin/engine"
	"dunlin/examples/garments"
	"dunlin/internal/sign"
	"dunlin/model/pack"
	"dunlin/model/samples"
)

// fashionMNIST is where Debian's dataset-fashion-mnist puts the 10,000 test
// pictures.
const fashionMNIST = "/usr/share/datasets/fashion-mnist"

// maxLoss is how many points of accuracy the fp16 model may lose, and maxDrop
// the share of its answers that the smallest may.
const (
	maxLoss = 0.5
	maxDrop = 0.01
)

// takeModel writes the example's files out and reads the network.
func (d *demo) takeModel(context.Context) error {
	if err := garments.WriteTo(d.path("garments")); err != nil {
		return err
	}
	m, err := load(d.path("garments", "garments.onnx"))
	if err != nil {
		return err
	}
	d.model = m
	info := describe(m)
	d.say("garments.onnx: %d nodes, %d parameters, %s of weights, input %s", len(m.graph.Nodes), info.Parameters, bytesText(info.Bytes), shapeText(info.Inputs[0]))
	return nil
}

// compressModel packs the model twice: fp16 is version 1, so that there is an
// older version to refuse later, and version 2 is what is chosen from the front.
func (d *demo) compressModel(ctx context.Context) error {
	sets := []string{d.path("garments", "samples")}
	if _, err := os.Stat(fashionMNIST); err == nil {
		sets = append(sets, fashionMNIST)
	}
	var err error
	if d.fp16, err = d.packHalf(ctx, sets); err != nil {
		return err
	}
	d.small, err = d.packSmallest(ctx, sets)
	return err
}

// options are those of both packs.
func (d *demo) options(to string, version int64) compressOptions {
	return compressOptions{To: to, Name: "garments", Version: version, Calibrate: d.path("garments", "calibration"), Examples: 4}
}

// bar shows on standard error how far a step is.
func (d *demo) bar(what string, n int) bar { return newBar(d.err, what, n) }

func (d *demo) packHalf(ctx context.Context, sets []string) (demoPack, error) {
	b := d.bar("packing", 1)
	p, err := compress(ctx, d.model, d.options("fp16", 1), b.set)
	b.done()
	if err != nil {
		return demoPack{}, err
	}
	pack, _, err := d.packed(ctx, "fp16", p, 1, sets, maxLoss)
	return pack, err
}

// packSmallest walks the front and packs the smallest form of which it is
// certain that it keeps the promise. The example's 200 pictures cannot make it
// certain: without Fashion-MNIST the choice is by what they lose.
func (d *demo) packSmallest(ctx context.Context, sets []string) (demoPack, error) {
	data := sets[len(sets)-1]
	r := compressing{
		m: d.model, o: d.options("", 2), start: d.bar, out: io.Discard,
		keep: certifyOptions{
			Data: data, LabelOffset: -1, MaxDrop: maxDrop, Confidence: 0.95, Target: "size", Bound: "bernstein",
			Uncertified: data != fashionMNIST, Seed: 1, Seconds: 0.05,
		},
	}
	p, err := r.certified(ctx)
	if err != nil {
		return demoPack{}, err
	}
	pack, rep, err := d.packed(ctx, "small", p, 2, sets, 100*maxDrop)
	if err != nil {
		return pack, err
	}
	c := rep.Certificate
	certified := 0
	for _, f := range c.Front[1:] {
		if f.Certified {
			certified++
		}
	}
	d.say("      %d smaller forms were tried, %d are certified; chosen: %s", len(c.Front)-1, certified, c.Front[c.Chosen].Name)
	d.say("      %s", promise(c))
	if !c.Certified {
		d.say("      So few pictures certify nothing; with Debian's dataset-fashion-mnist installed there are 10,000.")
		d.proved("certified", "nothing: %d pictures are too few", c.Samples)
		return pack, nil
	}
	d.proved("certified", "at most %s points of accuracy lost, with %s confidence", points(c.Front[c.Chosen].bound(c.Bound)), percent(c.Confidence))
	return pack, nil
}

// packed measures a pack on the sets, refuses one that lost more points than
// most, and writes it.
func (d *demo) packed(ctx context.Context, name string, p *pack.Pack, version int64, sets []string, most float64) (demoPack, packReport, error) {
	var r packReport
	if err := measureLoss(ctx, d.model, p, sets, d.before, d.bar); err != nil {
		return demoPack{}, r, err
	}
	dir := d.path("pack-" + name)
	digest, err := writePack(dir, p)
	if err != nil {
		return demoPack{}, r, err
	}
	if err := json.Unmarshal(p.Report, &r); err != nil {
		return demoPack{}, r, err
	}
	median, err := d.latency(p)
	if err != nil {
		return demoPack{}, r, err
	}
	smaller := float64(r.Bytes.Before) / float64(r.Bytes.After)
	d.say("%s: weights %s -> %s (%.1f times smaller), %.3f ms a picture here", name, bytesText(r.Bytes.Before), bytesText(r.Bytes.After), smaller, median)
	for _, a := range r.Accuracy {
		d.say("      accuracy on %d pictures: %.2f %% -> %.2f %%", a.Samples, 100*a.Before, 100*a.After)
	}
	last := r.Accuracy[len(r.Accuracy)-1]
	if loss := 100 * (last.Before - last.After); loss > most {
		return demoPack{}, r, fmt.Errorf("%s loses %.2f points on %d pictures, at most %.1f may be lost", name, loss, last.Samples, most)
	}
	d.proved(name, "%.1f times smaller, %.2f %% -> %.2f %% on %d pictures, %.3f ms", smaller, 100*last.Before, 100*last.After, last.Samples, median)
	return demoPack{dir, digest, version}, r, nil
}

// latency returns the median of one inference, in milliseconds.
func (d *demo) latency(p *pack.Pack) (float64, error) {
	_, s, err := session(p.Graph, nil, engine.Options{})
	if err != nil {
		return 0, err
	}
	pseudoRandom(s.Input(0))
	times, err := measure(s, 300e6)
	if err != nil {
		return 0, err
	}
	return millis(times[len(times)/2]), nil
}

// signDemo makes the release key and signs both packs.
func (d *demo) signDemo() error {
	key, err := sign.Generate()
	if err != nil {
		return err
	}
	d.key = key
	if err := key.WriteFile(d.path("release.pem")); err != nil {
		return err
	}
	if err := key.Public().WriteFile(d.path("release.pem.pub")); err != nil {
		return err
	}
	for _, p := range []demoPack{d.fp16, d.small} {
		if _, err := signPack(p.dir, key); err != nil {
			return err
		}
	}
	return nil
}

// pictureBox hands out pictures of the example, none twice, so that each can
// be told from its digest.
type pictureBox struct {
	set  *samples.Set
	dir  string
	next int
}

// take returns the names and bytes of n pictures.
func (b *pictureBox) take(n int) (names []string, files [][]byte, err error) {
	for range n {
		if b.next == b.set.Len() {
			return nil, nil, fmt.Errorf("the example has %d pictures, all are used", b.set.Len())
		}
		s, err := b.set.At(b.next)
		if err != nil {
			return nil, nil, err
		}
		b.next++
		data, err := os.ReadFile(b.dir + "/" + s.Name)
		if err != nil {
			return nil, nil, err
		}
		names, files = append(names, s.Name), append(files, data)
	}
	return names, files, nil
}
