package explain

import "fmt"

// cam returns the class activation map (Zhou et al. 2016, arXiv:1512.04150,
// eq. 2): where a network ends in the mean of each channel of its last features
// and a linear layer, the logit of class c is itself a mean over the picture,
//
//	z_c = b_c + mean over x, y of M_c(x, y),   M_c(x, y) = sum over k of w_ck f_k(x, y)
//
// so M_c says exactly how much each place added. It takes one forward run. Of
// a quantised network the f are the dequantised int8 features, and what the
// mean and the linear layer lose in int8 is the only difference.
func (n *Network) cam(x []float32, class int) (*Map, error) {
	if n.headless != nil {
		return nil, n.headless
	}
	weights, err := n.head.row(class)
	if err != nil {
		return nil, err
	}
	a, err := n.Ask(x)
	if err != nil {
		return nil, err
	}
	features := n.one.session.Output(n.head.output)
	height, width := features.Shape[2], features.Shape[3]
	m := &Map{
		Method: CAM, Class: class, Score: a.Scores[class], Width: width, Height: height,
		Values: make([]float32, width*height), Runs: 1, Complete: true,
	}
	if len(weights) != features.Shape[1] {
		return nil, fmt.Errorf("class activation map: %d weights for %d channels", len(weights), features.Shape[1])
	}
	f := features.F32()
	for k, w := range weights {
		for i, v := range f[k*len(m.Values) : (k+1)*len(m.Values)] {
			m.Values[i] += float32(w * v) // rounded, so that no CPU fuses it with the sum
		}
	}
	return m, nil
}
