package cli

import "dunlin/quant"

// front calibrates and returns the candidates, from the float model to the
// smallest.
func (s *search) front() ([]candidate, error) {
	calib := s.w.calib
	b := s.start("calibrating", len(calib.at))
	var err error
	s.ranges, err = quant.Calibrate(s.graph, calib.next, len(calib.at), quant.Options{Progress: b.set})
	b.done()
	if err != nil {
		return nil, err
	}
	o := quant.FrontOptions{Logits: classesOnly(s.w.spec)}
	o.PerTensor = s.rewrite.PerTensor
	b = s.start("looking for what each layer costs", 1)
	o.Progress = b.set
	found, costs, err := quant.Front(s.graph, s.ranges, calib.next, len(calib.at), o)
	b.done()
	if err != nil {
		return nil, err
	}
	s.cert.Layers = costs
	all := []candidate{{name: "float32", float: true}}
	for _, c := range found {
		all = append(all, candidate{name: c.Name, options: quant.Options{Levels: c.Levels, PerTensor: o.PerTensor}, kl: c.KL})
	}
	return all, nil
}
