package pack

import (
	"fmt"
	"io"
	"math"
	"os"

	"dunlin/internal/oci"
	"dunlin/model"
)

// blob is the content of a file, mapped or read.
type blob struct {
	data  []byte
	unmap func([]byte) error // nil where data was read
}

// mapBlob maps a blob read-only; where that cannot be done it reads it, to
// memory aligned as a mapping is for our purposes. The bytes are not hashed
// yet.
//
// A mapping shows later changes to the file, and reading one that was cut
// short ends the process. A layout never changes a blob in place: it replaces
// and removes names, and the mapping keeps the old file.
func mapBlob(l *oci.Layout, d oci.Descriptor) (*blob, error) {
	f, size, err := l.OpenBlob(d.Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Before any memory is taken: the size is what the manifest says.
	if size != d.Size {
		return nil, &oci.DigestError{Want: d.Digest, Size: size}
	}
	if size > math.MaxInt-model.Alignment {
		return nil, fmt.Errorf("blob %s: %d bytes are too many for this machine", d.Digest, size)
	}
	if file, ok := f.(*os.File); ok && size > 0 {
		if data, unmap, err := mapFile(file, int(size)); err == nil {
			return &blob{data, unmap}, nil
		}
	}
	data := model.Aligned(int(size))
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return &blob{data: data}, nil
}

// forget lets the pages of a mapping go until they are read again: to hash a
// blob makes all of it resident, the exam with the weights.
func (b *blob) forget() {
	if b.unmap != nil {
		forget(b.data)
	}
}

func (b *blob) close() error {
	data := b.data
	b.data = nil
	if b.unmap == nil || data == nil {
		return nil
	}
	return b.unmap(data)
}
