package engine

// recent is a cache of the values used last: when it is full, the one whose
// last use is longest ago goes. The zero value holds nothing; limit must be
// set. A look-up allocates nothing.
type recent[V any] struct {
	limit int
	held  map[string]*entry[V]
	clock int64
}

type entry[V any] struct {
	value V
	used  int64
}

func (r *recent[V]) get(key []byte) (v V, ok bool) {
	e := r.held[string(key)]
	if e == nil {
		return v, false
	}
	r.clock++
	e.used = r.clock
	return e.value, true
}

func (r *recent[V]) put(key []byte, v V) {
	if r.held == nil {
		r.held = map[string]*entry[V]{}
	}
	if len(r.held) >= r.limit {
		oldest, at := "", int64(-1)
		for k, e := range r.held {
			if at < 0 || e.used < at {
				oldest, at = k, e.used
			}
		}
		delete(r.held, oldest)
	}
	r.clock++
	r.held[string(key)] = &entry[V]{v, r.clock}
}
