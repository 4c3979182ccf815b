package cli

import (
	"context"
	"encoding/json"
	"fmt"
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

// maxLoss is how many points of accuracy a compressed model may lose.
const maxLoss = 0.5

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

// compressModel packs the model twice. fp16 is version 1 and int8 version 2,
// so that there is an older version to refuse later.
func (d *demo) compressModel(ctx context.Context) error {
	sets := []string{d.path("garments", "samples")}
	if _, err := os.Stat(fashionMNIST); err == nil {
		sets = append(sets, fashionMNIST)
	}
	var err error
	if d.fp16, err = d.packAs(ctx, "fp16", 1, sets); err != nil {
		return err
	}
	d.int8, err = d.packAs(ctx, "int8", 2, sets)
	return err
}

func (d *demo) packAs(ctx context.Context, to string, version int64, sets []string) (demoPack, error) {
	b := newBar(d.err, "calibrating", 1)
	p, err := compress(ctx, d.model, compressOptions{
		To: to, Name: "garments", Version: version, Calibrate: d.path("garments", "calibration"), Examples: 4,
	}, b.set)
	b.done()
	if err != nil {
		return demoPack{}, err
	}
	if err := measureLoss(ctx, d.model, p, sets, d.before, func(what string, n int) bar { return newBar(d.err, what, n) }); err != nil {
		return demoPack{}, err
	}
	dir := d.path("pack-" + to)
	digest, err := writePack(dir, p)
	if err != nil {
		return demoPack{}, err
	}
	var r packReport
	if err := json.Unmarshal(p.Report, &r); err != nil {
		return demoPack{}, err
	}
	median, err := d.latency(p)
	if err != nil {
		return demoPack{}, err
	}
	d.say("%s: weights %s -> %s (%.1f times smaller), %.3f ms a picture here", to, bytesText(r.Bytes.Before), bytesText(r.Bytes.After),
		float64(r.Bytes.Before)/float64(r.Bytes.After), median)
	for _, a := range r.Accuracy {
		d.say("      accuracy on %d pictures: %.2f %% -> %.2f %%", a.Samples, 100*a.Before, 100*a.After)
	}
	last := r.Accuracy[len(r.Accuracy)-1]
	if loss := 100 * (last.Before - last.After); loss > maxLoss {
		return demoPack{}, fmt.Errorf("%s loses %.2f points on %d pictures, at most %.1f may be lost", to, loss, last.Samples, maxLoss)
	}
	d.proved(to, "%.1f times smaller, %.2f %% -> %.2f %% on %d pictures, %.3f ms",
		float64(r.Bytes.Before)/float64(r.Bytes.After), 100*last.Before, 100*last.After, last.Samples, median)
	return demoPack{dir, digest, version}, nil
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
	for _, p := range []demoPack{d.fp16, d.int8} {
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
