package train

import (
	"fmt"
	"sync"

	"dunlin/kernels"
)

// Targets are what the outputs of n samples are compared with. A loss reads
// what it needs of them.
type Targets struct {
	Classes []int32   // [n]: index of the right class, or Unlabelled
	Values  []float32 // [n, width]: the right outputs
	Teacher []float32 // [n, width]: logits that a teacher gives for the same inputs
}

// Unlabelled is the class of a sample that has none: cross-entropy takes it
// for a loss of 0, so that a teacher alone can teach it.
const Unlabelled = -1

// Loss compares the first output of a net with targets. A Loss keeps scratch
// of its own: it may be used by one goroutine at a time.
type Loss interface {
	// Of returns the mean loss of n samples and, where gradient is not nil,
	// writes to it the loss's derivative by each value of out.
	//
	//	out, gradient [n, width] float32; gradient may not overlap out
	Of(n int, out []float32, t Targets, gradient []float32) float64

	// Plain returns the loss that tells how good a net is: what held-out data
	// is measured with, and what stops a training early.
	Plain() Loss

	// Logits reports whether out has to be logits (Options.Logits).
	Logits() bool

	// Taught reports whether it reads Targets.Teacher.
	Taught() bool

	// Check fails where data lacks what the loss reads, for outputs of the
	// given width. taught says that a teacher looks at every batch.
	Check(d *Data, width int, taught bool) error

	// String names the loss with its settings.
	String() string
}

// Interface guards
var (
	_ Loss = MSE{}
	_ Loss = (*CrossEntropy)(nil)
	_ Loss = (*Distillation)(nil)
)

// MSE is the mean over all values of (out - Values)².
type MSE struct{}

// Of implements Loss.
func (MSE) Of(_ int, out []float32, t Targets, gradient []float32) float64 {
	want := t.Values[:len(out)]
	scale := float32(2 / float64(len(out)))
	sum := 0.0
	for i, v := range out {
		d := v - want[i]
		sum += float64(float64(d) * float64(d))
		if gradient != nil {
			gradient[i] = float32(d * scale)
		}
	}
	return sum / float64(len(out))
}

// Plain implements Loss.
func (m MSE) Plain() Loss { return m }

// Logits implements Loss.
func (MSE) Logits() bool { return false }

// Taught implements Loss.
func (MSE) Taught() bool { return false }

// Check implements Loss.
func (MSE) Check(d *Data, width int, _ bool) error {
	if len(d.Values) != d.Len()*width {
		return fmt.Errorf("loss mse: %d target values for %d samples of %d outputs: give Values of shape [%d, %d]",
			len(d.Values), d.Len(), width, d.Len(), width)
	}
	return nil
}

func (MSE) String() string { return "mse" }

// CrossEntropy is the mean over samples of
//
//	-Σ q_k log p_k,  p = softmax(out),  q_k = (1 - Smoothing)·[k = class] + Smoothing/width
//
// which is -log p_class without smoothing. Smoothing: Szegedy et al. 2016,
// arXiv:1512.00567, section 7. The gradient is (p - q)/n.
type CrossEntropy struct {
	Smoothing float64 // 0 to below 1

	rows softmaxRows
}

// Of implements Loss.
func (c *CrossEntropy) Of(n int, out []float32, t Targets, gradient []float32) float64 {
	return c.of(n, out, t.Classes, gradient, 1)
}

// of is Of with a weight on loss and gradient.
func (c *CrossEntropy) of(n int, out []float32, classes []int32, gradient []float32, weight float64) float64 {
	width := len(out) / n
	p, norms := c.rows.softmax(out, n, 1)
	even := c.Smoothing / float64(width)
	scale := float32(weight / float64(n))
	sum := 0.0
	for r, class := range classes[:n] {
		row := out[r*width:][:width]
		if class < 0 || int(class) >= width {
			if gradient != nil {
				clear(gradient[r*width:][:width])
			}
			continue
		}
		sum += norms[r] - float64((1-c.Smoothing)*float64(row[class]))
		if even > 0 {
			for _, v := range row {
				sum -= float64(even * float64(v))
			}
		}
		if gradient != nil {
			g := gradient[r*width:][:width]
			for k, v := range p[r*width:][:width] {
				g[k] = float32((v - float32(even)) * scale)
			}
			g[class] -= float32(float32(1-c.Smoothing) * scale)
		}
	}
	return weight * sum / float64(n)
}

// Plain implements Loss: without smoothing.
func (c *CrossEntropy) Plain() Loss { return &CrossEntropy{} }

// Logits implements Loss.
func (c *CrossEntropy) Logits() bool { return true }

// Taught implements Loss.
func (c *CrossEntropy) Taught() bool { return false }

// Check implements Loss.
func (c *CrossEntropy) Check(d *Data, width int, _ bool) error {
	if c.Smoothing < 0 || c.Smoothing >= 1 {
		return fmt.Errorf("loss %v: smoothing is %v: want 0 to below 1", c, c.Smoothing)
	}
	return checkClasses(c, d, width, false)
}

// checkClasses fails where a class is not one of the outputs.
func checkClasses(l Loss, d *Data, width int, unlabelled bool) error {
	if len(d.Classes) != d.Len() {
		return fmt.Errorf("loss %v: %d classes for %d samples: give each sample its class", l, len(d.Classes), d.Len())
	}
	for i, class := range d.Classes {
		if class == Unlabelled && unlabelled {
			continue
		}
		if class < 0 || int(class) >= width {
			return fmt.Errorf("loss %v: sample %d has class %d, the net has %d outputs: want 0 to %d", l, i, class, width, width-1)
		}
	}
	return nil
}

func (c *CrossEntropy) String() string {
	if c.Smoothing == 0 {
		return "cross-entropy"
	}
	return fmt.Sprintf("cross-entropy, smoothing %v", c.Smoothing)
}

// Distillation is
//
//	(1-Weight)·CrossEntropy + Weight·T²·KL(softmax(Teacher/T) ‖ softmax(out/T))
//
// the mean over samples, KL(q‖p) = Σ q log(q/p): Hinton et al. 2015,
// arXiv:1503.02531, section 2. T² keeps the size of the second part's
// gradient, Weight·T·(p - q)/n, about the same whatever T is.
type Distillation struct {
	Temperature float64 // T, above 0
	Weight      float64 // of the teacher, above 0 to 1; at 1 no classes are needed
	Smoothing   float64 // of the cross-entropy

	hard             CrossEntropy
	student, teacher softmaxRows
}

// Of implements Loss.
func (d *Distillation) Of(n int, out []float32, t Targets, gradient []float32) float64 {
	loss := 0.0
	if d.Weight < 1 {
		d.hard.Smoothing = d.Smoothing
		loss = d.hard.of(n, out, t.Classes, gradient, 1-d.Weight)
	} else if gradient != nil {
		clear(gradient[:len(out)])
	}
	width := len(out) / n
	p, student := d.student.softmax(out, n, d.Temperature)
	q, teacher := d.teacher.softmax(t.Teacher[:len(out)], n, d.Temperature)
	sum, inverse := 0.0, 1/d.Temperature
	for r := range n {
		row := sum
		for k := r * width; k < (r+1)*width; k++ {
			row += float64(float64(q[k]) * float64(float64(t.Teacher[k]-out[k])*inverse))
		}
		// log(q/p) = (teacher - student)/T - (log-sum of teacher - that of student), and Σ q = 1.
		sum = row + student[r] - teacher[r]
	}
	if gradient != nil {
		scale := float32(d.Weight * d.Temperature / float64(n))
		for k, v := range p {
			gradient[k] += float32((v - q[k]) * scale)
		}
	}
	return loss + d.Weight*d.Temperature*d.Temperature*sum/float64(n)
}

// Plain implements Loss: the cross-entropy with the classes; where there is
// no weight on them, the loss itself.
func (d *Distillation) Plain() Loss {
	if d.Weight < 1 {
		return &CrossEntropy{}
	}
	return &Distillation{Temperature: d.Temperature, Weight: d.Weight}
}

// Logits implements Loss.
func (d *Distillation) Logits() bool { return true }

// Taught implements Loss.
func (d *Distillation) Taught() bool { return true }

// Check implements Loss.
func (d *Distillation) Check(data *Data, width int, taught bool) error {
	if d.Temperature <= 0 || d.Weight <= 0 || d.Weight > 1 || d.Smoothing < 0 || d.Smoothing >= 1 {
		return fmt.Errorf("loss %v: want a temperature above 0, a weight above 0 and at most 1, a smoothing from 0 to below 1", d)
	}
	if !taught && len(data.Teacher) != data.Len()*width {
		return fmt.Errorf("loss %v: %d teacher values for %d samples of %d outputs: give FitOptions.Teacher, or Data.Teacher of shape [%d, %d]",
			d, len(data.Teacher), data.Len(), width, data.Len(), width)
	}
	if d.Weight == 1 {
		return nil
	}
	return checkClasses(d, data, width, true)
}

func (d *Distillation) String() string {
	s := fmt.Sprintf("distillation, temperature %v, weight %v", d.Temperature, d.Weight)
	if d.Smoothing > 0 {
		s += fmt.Sprintf(", smoothing %v", d.Smoothing)
	}
	return s
}

// softmaxRows computes softmax and log-sum-exp of rows, in memory that it
// keeps.
type softmaxRows struct {
	p     []float32
	norms []float64
}

// lossExp is e^x on this CPU: the same bits as on every other, so that a tier
// named in vain only makes it slower.
var lossExp = sync.OnceValue(func() kernels.Unary {
	t, _ := kernels.Host("")
	_, f := kernels.SmoothExp.For(t)
	return f
})

// log64 is the logarithm that gives the same bits on every CPU.
var log64 = kernels.NewFunction("Log", kernels.FunctionAttrs{})

// softmax returns p = softmax(x/t) and log Σ exp(x/t) for each of n rows.
// Both are valid until the next call.
func (s *softmaxRows) softmax(x []float32, n int, t float64) (p []float32, norms []float64) {
	if len(s.p) < len(x) || len(s.norms) < n {
		s.p, s.norms = make([]float32, len(x)), make([]float64, n)
	}
	p, norms = s.p[:len(x)], s.norms[:n]
	width, inverse := len(x)/n, float32(1/t)
	for r := range n {
		row, out := x[r*width:][:width], p[r*width:][:width]
		top := row[0]
		for _, v := range row {
			top = max(top, v)
		}
		for k, v := range row {
			out[k] = float32((v - top) * inverse)
		}
		norms[r] = float64(top) / t
	}
	lossExp()(p, p)
	for r := range n {
		out, sum := p[r*width:][:width], 0.0
		for _, v := range out {
			sum += float64(v)
		}
		norms[r] += log64(sum)
		scale := float32(1 / sum)
		for k, v := range out {
			out[k] = float32(v * scale)
		}
	}
	return p, norms
}

// Right returns how many of n samples have their largest output at their
// class, the first of equals.
func Right(n int, out []float32, classes []int32) int {
	width, right := len(out)/n, 0
	for r := range n {
		best := 0
		for k, v := range out[r*width:][:width] {
			if v > out[r*width+best] {
				best = k
			}
		}
		if int32(best) == classes[r] {
			right++
		}
	}
	return right
}
