package outbox

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"dunlin/sync/wire"
)

// A key that is not below the next page's first: bbolt would panic over it.
func TestKeyAboveItsPage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	b := openBox(t, path, Options{Each: true})
	rnd := rand.New(rand.NewPCG(8, 1))
	for range 40 {
		putAll(t, b, wire.RecordResult, 1, resultLike(rnd))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		_, _, err := walkPages(bytes.NewReader(data), int64(len(data)))
		return err
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for at := 2 * 4096; at < len(data); at += 4096 {
		page := data[at : at+4096]
		count := int(le.Uint16(page[10:]))
		if le.Uint16(page[8:]) != flagLeaf || count < 2 || le.Uint64(page) != uint64(at/4096) {
			continue
		}
		elem := pageHead + (count-1)*elemSize
		key, err := part(page, elem, le.Uint32(page[elem+4:]), le.Uint32(page[elem+8:]))
		if err != nil || len(key) != 8 || seqOf(key) > 30 {
			continue
		}
		was := bytes.Clone(key)
		copy(key, keyOf(1000))
		if _, ok := errors.AsType[damage](check()); ok {
			changed++ // a page that is still in use
		}
		copy(key, was)
	}
	if changed < 2 {
		t.Errorf("a key above its page was seen on %d pages", changed)
	}
	if err := check(); err != nil {
		t.Error(err)
	}
}
