package outbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"dunlin/sync/wire"
)

// A record's value is
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
	mark := kindMarks[r.Kind]
	v := make([]byte, valueHead, valueHead+len(r.Body))
	v[0] = mark
	binary.LittleEndian.PutUint32(v[1:], checksum(r.Seq, mark, r.Body))
	return append(v, r.Body...)
}

func cost(valueLen int) int64 { return max(int64(valueLen)+entryCost, leastCost) }

// decodeValue returns the record; its Body is a part of v. ok is false where
// the value is not what was written.
func decodeValue(seq int64, v []byte) (r wire.Record, ok bool) {
	if len(v) < valueHead || binary.LittleEndian.Uint32(v[1:]) != checksum(seq, v[0], v[valueHead:]) {
		return r, false
	}
	r = wire.Record{Seq: seq, Body: v[valueHead:]}
	switch v[0] {
	case markResult:
		r.Kind = wire.RecordResult
	case markReport:
		r.Kind = wire.RecordReport
	case markGap:
		r.Kind = wire.RecordGap
	default:
		return r, false
	}
	return r, true
}

// follower returns the seq after the record in v.
func follower(seq int64, v []byte) (int64, error) {
	if len(v) == 0 || v[0] != markGap {
		return seq + 1, nil
	}
	r, ok := decodeValue(seq, v)
	if !ok { // how far it reached is not known: the order of the rest is lost
		return 0, fmt.Errorf("gap record %d is damaged", seq)
	}
	return r.Next()
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
