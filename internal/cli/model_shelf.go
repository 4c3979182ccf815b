package cli

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"unsafe"

	"dunlin/model"
	"dunlin/model/samples"
)

// shelf keeps the constants of graphs in a file that is mapped, and takes their
// pages out of memory when they were read: a network that was compiled has its
// weights packed, and those of the graph need not be there beside them. What is
// read again comes back by itself.
//
// The file has no name and goes with the process. The nil shelf keeps nothing.
type shelf struct {
	file *os.File
	size int64        // a multiple of the page
	maps [][]byte     // read only
	read atomic.Int64 // bytes of constants and samples that were done with since the last collection
}

// readMost is after how many bytes of constants and samples that were done with
// the collector runs. Left to itself it ends late on a busy machine: each network
// that is compiled leaves more than it needs, and each picture that is decoded.
const readMost = 8 << 20

// shelved is how large the constants of a graph are at least that go on a shelf:
// what is less counts for nothing beside the program itself.
const shelved = 1 << 20

// newShelf makes a shelf in a folder, or in the one for temporary files, which
// may be in memory itself. It is nil where neither can be written to.
func newShelf(dir string) *shelf {
	for _, dir := range []string{dir, os.TempDir()} {
		f, err := os.CreateTemp(dir, ".dunlin-weights-*")
		if err != nil {
			continue
		}
		if os.Remove(f.Name()) == nil {
			return &shelf{file: f}
		}
		_ = f.Close() // an error says nothing of the file, which nobody reads
	}
	return nil
}

// put moves the constants of g, and of the graphs in it, onto the shelf, where
// they are large together. Where that fails they stay where they are.
func (s *shelf) put(g *model.Graph) {
	if s == nil {
		return
	}
	page := os.Getpagesize()
	at, total := map[*model.Tensor]int{}, 0
	var list []*model.Tensor
	constants(g, func(t *model.Tensor) *model.Tensor {
		if _, known := at[t]; !known && len(t.Data) >= page && s.place(t) == nil {
			at[t] = total
			total += (len(t.Data) + page - 1) / page * page
			list = append(list, t)
		}
		return t
	})
	if total < shelved {
		return
	}
	data, err := s.write(list, at, total)
	if err != nil {
		return
	}
	constants(g, func(t *model.Tensor) *model.Tensor {
		if begin, moved := at[t]; moved {
			end := begin + len(t.Data)
			return &model.Tensor{Type: t.Type, Shape: t.Shape, Data: data[begin:end:end]}
		}
		return t
	})
}

// write appends tensors to the file, each where at says, and maps that part of
// it. They are not written to the mapping: a full disk is an error then, and no
// signal.
func (s *shelf) write(list []*model.Tensor, at map[*model.Tensor]int, total int) ([]byte, error) {
	for _, t := range list {
		if _, err := s.file.WriteAt(t.Data, s.size+int64(at[t])); err != nil {
			return nil, err
		}
	}
	if err := s.file.Truncate(s.size + int64(total)); err != nil { // the last page whole
		return nil, err
	}
	data, err := mapPart(s.file, s.size, total)
	if err != nil {
		return nil, err
	}
	s.size += int64(total)
	s.maps = append(s.maps, data)
	return data, nil
}

// place returns the pages on the shelf that t has, nil where it has none.
func (s *shelf) place(t *model.Tensor) []byte {
	if len(t.Data) == 0 {
		return nil
	}
	begin, page := uintptr(unsafe.Pointer(unsafe.SliceData(t.Data))), os.Getpagesize()
	for _, m := range s.maps {
		first := uintptr(unsafe.Pointer(unsafe.SliceData(m)))
		if begin >= first && begin < first+uintptr(len(m)) {
			at := int(begin-first) / page * page
			return m[at:min(len(m), int(begin-first)+(len(t.Data)+page-1)/page*page)]
		}
	}
	return nil
}

// rest takes the pages of t out of memory, where it is on the shelf. Constants
// that are not, those that a compilation made, are the collector's.
func (s *shelf) rest(t *model.Tensor) {
	if s == nil {
		return
	}
	s.used(len(t.Data))
	if pages := s.place(t); pages != nil {
		forgetPages(pages)
	}
}

// used says that so many bytes were allocated and will not be read again, or not
// for long. It may be called from several goroutines.
func (s *shelf) used(n int) {
	if s != nil && s.read.Add(int64(n)) >= readMost {
		s.read.Store(0)
		runtime.GC()
	}
}

// seen is used for a sample that became a tensor of so many bytes.
func (s *shelf) seen(x samples.Sample, tensor int) {
	if x.Picture != nil {
		size := x.Picture.Bounds().Size()
		tensor += 4 * size.X * size.Y
	}
	s.used(tensor)
}

// close takes everything off the shelf: the graphs are not to be used then.
func (s *shelf) close() error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, m := range slices.Backward(s.maps) {
		errs = append(errs, unmapPart(m))
	}
	s.maps = nil
	return errors.Join(append(errs, s.file.Close())...)
}

// constants puts f of each constant of g, and of the graphs in it, in its place.
func constants(g *model.Graph, f func(*model.Tensor) *model.Tensor) {
	for _, v := range g.Values {
		if v.Const != nil {
			v.Const = f(v.Const)
		}
	}
	for _, n := range g.Nodes {
		for name, a := range n.Attrs {
			switch a := a.(type) {
			case *model.Graph:
				constants(a, f)
			case *model.Tensor:
				n.Attrs[name] = f(a)
			}
		}
	}
}
