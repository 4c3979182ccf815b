package outbox

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"sync"

	"dunlin/sync/wire"
)

// Results that follow each other in a group differ in little: they stand on
// the disk together, in one value, compressed. What a card gets for them is a
// third of what it would get for each by itself.
//
//	byte 0     'z'
//	byte 1..4  CRC-32C of key, kind and what follows, little-endian
//	byte 5     how many, 2 to packMost
//	byte 6..   DEFLATE (RFC 1951) of so many: length u16 little-endian, body
//
// A value holds few of them, so that it is mostly a part of a page: bbolt splits
// no page of four values or fewer, so that large ones would be written again
// with those that come after them. Bodies that do not
// compress may make one of 16 KB, as one long body may by itself. And what is
// dropped, or damaged, is a value. Reports stand alone, for they are never dropped.
const (
	packMost  = 8
	packBytes = 16 << 10 // of bodies in one value
	packHead  = valueHead + 1
)

// together returns how many of the entries, from the first on, make one value.
func together(entries []*entry) int {
	size := 0
	for i, e := range entries {
		size += len(e.body)
		if i == packMost || e.kind != wire.RecordResult || size > packBytes {
			return max(i, 1)
		}
	}
	return len(entries)
}

// Both are kept from one use to the next, and given up when there is none: a
// compressor has 800 KB, the other 40.
var (
	deflaters = sync.Pool{New: func() any {
		w, err := flate.NewWriter(nil, flate.DefaultCompression)
		if err != nil {
			panic(err) // the level is none
		}
		return w
	}}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

// valueOf returns the value of entries of which the first has seq.
func valueOf(seq int64, entries []*entry) ([]byte, error) {
	if len(entries) == 1 {
		return encodeValue(wire.Record{Seq: seq, Kind: entries[0].kind, Body: entries[0].body}), nil
	}
	out := bytes.NewBuffer(append(make([]byte, valueHead), byte(len(entries))))
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(out)
	for _, e := range entries {
		for _, part := range [][]byte{le.AppendUint16(nil, uint16(len(e.body))), e.body} {
			if _, err := w.Write(part); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	seal(seq, markPacked, out.Bytes())
	return out.Bytes(), nil
}

var errPacked = errors.New("not results that were packed")

// unpack returns the results of a value, of which the first has seq.
func unpack(seq int64, v []byte) ([]wire.Record, error) {
	if len(v) < packHead || v[valueHead] < 2 || v[valueHead] > packMost {
		return nil, fmt.Errorf("%w: %d bytes", errPacked, len(v))
	}
	n := int(v[valueHead])
	in := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(in)
	if err := in.(flate.Resetter).Reset(bytes.NewReader(v[packHead:]), nil); err != nil {
		return nil, err
	}
	most := packBytes + 2*n
	data, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", errPacked, most)
	}
	records := make([]wire.Record, n)
	for i := range records {
		if len(data) < 2 || len(data)-2 < int(le.Uint16(data)) {
			return nil, fmt.Errorf("%w: result %d of %d ends early", errPacked, i+1, n)
		}
		end := 2 + int(le.Uint16(data))
		records[i] = wire.Record{Seq: seq + int64(i), Kind: wire.RecordResult, Body: data[2:end:end]}
		data = data[end:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%w: %d bytes too many", errPacked, len(data))
	}
	return records, nil
}
