package outbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"dunlin/sync/wire"
)

// A record's value (pack.go has that of several) is
//
//	byte 0     kind: 'r' result, 'p' report, 'g' gap
//	byte 1..4  CRC-32C of key, kind and body, little-endian
//	byte 5..   body, JSON
//
// bbolt has no checksums of its own but for its first two pages.
const valueHead = 5

// entryCost is what a record costs in the file beside its value: its key and
// bbolt's element. No record is charged less than leastCost, which any gap is
// within, so that dropping a record never costs more than keeping it.
const (
	entryCost = 8 + 16
	leastCost = 128
)

const (
	markResult = 'r'
	markReport = 'p'
	markGap    = 'g'
	markPacked = 'z' // several results
)

var kindMarks = map[wire.RecordKind]byte{
	wire.RecordResult: markResult, wire.RecordReport: markReport, wire.RecordGap: markGap,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(seq int64, mark byte, body []byte) uint32 {
	var head [9]byte
	binary.BigEndian.PutUint64(head[:], uint64(seq))
	head[8] = mark
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, body)
}

func encodeValue(r wire.Record) []byte {
	v := append(make([]byte, valueHead, valueHead+len(r.Body)), r.Body...)
	seal(r.Seq, kindMarks[r.Kind], v)
	return v
}

// seal fills in the head of a value.
func seal(seq int64, mark byte, v []byte) {
	v[0] = mark
	binary.LittleEndian.PutUint32(v[1:], checksum(seq, mark, v[valueHead:]))
}

func cost(valueLen int) int64 { return max(int64(valueLen)+entryCost, leastCost) }

// decodeValue returns the records, at least one; a Body may be a part of v. ok
// is false where the value is not what was written.
func decodeValue(seq int64, v []byte) (records []wire.Record, ok bool) {
	if len(v) < valueHead || binary.LittleEndian.Uint32(v[1:]) != checksum(seq, v[0], v[valueHead:]) {
		return nil, false
	}
	r := wire.Record{Seq: seq, Body: v[valueHead:]}
	switch v[0] {
	case markPacked:
		records, err := unpack(seq, v)
		return records, err == nil
	case markResult:
		r.Kind = wire.RecordResult
	case markReport:
		r.Kind = wire.RecordReport
	case markGap:
		r.Kind = wire.RecordGap
	default:
		return nil, false
	}
	return []wire.Record{r}, true
}

// decodeGap returns the gap in v.
func decodeGap(seq int64, v []byte) (g wire.Gap, err error) {
	records, ok := decodeValue(seq, v)
	if !ok {
		return g, fmt.Errorf("gap record %d is damaged", seq)
	}
	return records[0].Gap()
}

// mark returns the kind of a value.
func mark(v []byte) byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// endOf returns the seq after the value before k, the key that follows it or
// nil: no seq is without a value, so it reaches to there, or to next. That
// holds for one that cannot be read, too.
func endOf(k []byte, next int64) int64 {
	if k != nil {
		return seqOf(k)
	}
	return next
}

func checkRecord(kind wire.RecordKind, body []byte) error {
	if kind != wire.RecordResult && kind != wire.RecordReport {
		return fmt.Errorf("put %.40q: %w: want %s or %s", kind, ErrRecord, wire.RecordResult, wire.RecordReport)
	}
	if len(body) > wire.MaxBody {
		return fmt.Errorf("put %s of %d bytes, at most %d: %w", kind, len(body), wire.MaxBody, ErrRecord)
	}
	if !json.Valid(body) {
		return fmt.Errorf("put %s: %w: not JSON", kind, ErrRecord)
	}
	return nil
}
