package engine

// InParts returns o for a program of which every step that can be cut is cut
// into n parts, whatever it costs.
func (o Options) InParts(n int) Options {
	o.parts = n
	return o
}
