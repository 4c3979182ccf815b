package wire

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// maxLine bounds one line of a batch: a Body of any peer, and what is around it.
const maxLine = 256 << 10

// NewEpoch returns a new name for an outbox file: 16 random hex digits.
func NewEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// CheckEpoch fails where s is not 16 lower-case hex digits.
func CheckEpoch(s string) error {
	if len(s) == 16 {
		ok := true
		for _, c := range []byte(s) {
			ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("epoch %.40q: want 16 of 0-9a-f", s)
}

// GapRecord returns the record that stands for dropped ones.
func GapRecord(g Gap) Record {
	body, err := marshal(g)
	if err != nil { // a struct of two numbers and a text always marshals
		panic(err)
	}
	return Record{Seq: g.First, Kind: RecordGap, Body: body}
}

// Gap returns what a record of kind RecordGap says, checked against its Seq.
func (r Record) Gap() (Gap, error) {
	var g Gap
	what := fmt.Sprintf("gap record %d", r.Seq)
	if r.Kind != RecordGap {
		return g, malformed(what, "its kind is %.40q", r.Kind)
	}
	if err := json.Unmarshal(r.Body, &g); err != nil {
		return g, malformed(what, "%v", err)
	}
	if g.First != r.Seq || g.Count < 1 || g.Count > math.MaxInt64-g.First {
		return g, malformed(what, "it covers %d from %d on", g.Count, g.First)
	}
	return g, nil
}

// Next returns the Seq that follows r: Seq+1, or for a Gap the first one that
// it does not cover.
func (r Record) Next() (int64, error) {
	if r.Seq < 1 || r.Seq == math.MaxInt64 {
		return 0, malformed("record", "seq %d", r.Seq)
	}
	if r.Kind != RecordGap {
		return r.Seq + 1, nil
	}
	g, err := r.Gap()
	return g.First + g.Count, err
}

// span returns the Seq that follows the records, which must be contiguous.
func span(records []Record) (next int64, err error) {
	for i, r := range records {
		if i > 0 && r.Seq != next {
			return 0, malformed("batch", "record %d follows, want %d", r.Seq, next)
		}
		if next, err = r.Next(); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// Unseen is the hub's rule for storing each record once. Given the records of
// a batch and the hub's watermark for the epoch (every record below it is
// stored; 1 for an epoch it has never seen), it returns the records to store
// now and the watermark after that. A record below the watermark was stored
// before and is left out; of a Gap only the part above it is left.
//
// Records that begin above the watermark cannot be stored yet, because
// something before them is still on its way: nothing is returned and the
// watermark stays, so that the device, told so by the Ack, sends from there.
func Unseen(records []Record, watermark int64) (fresh []Record, next int64, err error) {
	end, err := span(records)
	if err != nil {
		return nil, watermark, err
	}
	if len(records) == 0 || records[0].Seq > watermark || end <= watermark {
		return nil, watermark, nil
	}
	for i, r := range records {
		n, err := r.Next()
		if err != nil {
			return nil, watermark, err
		}
		if n <= watermark {
			continue
		}
		if r.Seq < watermark { // only a Gap reaches over it
			g, err := r.Gap()
			if err != nil {
				return nil, watermark, err
			}
			r = GapRecord(Gap{First: watermark, Count: n - watermark, Why: g.Why})
		}
		return append([]Record{r}, records[i+1:]...), end, nil
	}
	return nil, watermark, nil
}

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// EncodeBatch returns an UpResult message. The records must be contiguous
// (Record.Next) and not more than MaxBatchRecords. Where the packed message is
// beyond MaxBatch the error wraps ErrTooLarge: send fewer records. One record
// whose Body is at most MaxBody always fits.
func EncodeBatch(epoch string, records []Record) ([]byte, error) {
	if err := CheckEpoch(epoch); err != nil {
		return nil, err
	}
	if len(records) == 0 || len(records) > MaxBatchRecords {
		return nil, malformed("batch", "%d records, want 1 to %d", len(records), MaxBatchRecords)
	}
	if _, err := span(records); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(&out)
	lines := json.NewEncoder(z) // one line a value: it compacts a Body
	lines.SetEscapeHTML(false)
	if err := lines.Encode(Batch{T: "batch", Epoch: epoch, First: records[0].Seq, Count: len(records)}); err != nil {
		return nil, malformed("batch", "%v", err)
	}
	for _, r := range records {
		if err := lines.Encode(r); err != nil {
			return nil, malformed("batch", "record %d: %v", r.Seq, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, malformed("batch", "%v", err)
	}
	if out.Len() > MaxBatch {
		return nil, tooLarge("batch", out.Len(), MaxBatch)
	}
	return out.Bytes(), nil
}

// DecodeBatch is the inverse of EncodeBatch. It reads at most MaxBatchText
// bytes of what data unpacks to, and checks the epoch, the number of records
// and that they are contiguous. Errors wrap ErrTooLarge or ErrMalformed.
func DecodeBatch(data []byte) (Batch, []Record, error) {
	if len(data) > maxBatchPacked {
		return Batch{}, nil, tooLarge("batch", len(data), maxBatchPacked)
	}
	packed := bytes.NewReader(data)
	z, err := gzip.NewReader(packed)
	if err != nil {
		return Batch{}, nil, malformed("batch", "%v", err)
	}
	z.Multistream(false)
	text := &io.LimitedReader{R: z, N: MaxBatchText + 1}
	lines := bufio.NewScanner(text)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	batch, records, err := scanBatch(lines)
	switch {
	case text.N == 0:
		return Batch{}, nil, fmt.Errorf("batch of more than %d bytes unpacked: %w", MaxBatchText, ErrTooLarge)
	case err != nil:
		return Batch{}, nil, err
	case packed.Len() > 0:
		return Batch{}, nil, malformed("batch", "%d bytes after its end", packed.Len())
	}
	return batch, records, nil
}

func scanBatch(lines *bufio.Scanner) (Batch, []Record, error) {
	var b Batch
	if !lines.Scan() {
		return b, nil, scanError(lines, "no first line")
	}
	if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
		return b, nil, malformed("batch", "first line: %v", err)
	}
	if b.T != "batch" {
		return b, nil, malformed("batch", `"t" is %.40q`, b.T)
	}
	if err := CheckEpoch(b.Epoch); err != nil {
		return b, nil, malformed("batch", "%v", err)
	}
	if b.Count < 1 || b.Count > MaxBatchRecords {
		return b, nil, malformed("batch", "%d records, want 1 to %d", b.Count, MaxBatchRecords)
	}
	var records []Record
	for lines.Scan() {
		if len(records) == b.Count {
			return b, nil, malformed("batch", "more lines than the %d it announces", b.Count)
		}
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return b, nil, malformed("batch", "record line %d: %v", len(records)+1, err)
		}
		if r.Kind == "" || len(r.Body) == 0 {
			return b, nil, malformed("batch", "record line %d: no kind or no body", len(records)+1)
		}
		records = append(records, r)
	}
	if lines.Err() != nil || len(records) != b.Count {
		return b, nil, scanError(lines, fmt.Sprintf("%d records, it announces %d", len(records), b.Count))
	}
	if records[0].Seq != b.First {
		return b, nil, malformed("batch", "first record is %d, it announces %d", records[0].Seq, b.First)
	}
	if _, err := span(records); err != nil {
		return b, nil, err
	}
	return b, records, nil
}

func scanError(lines *bufio.Scanner, short string) error {
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("batch: a line of more than %d bytes: %w", maxLine, ErrTooLarge)
	case err != nil:
		return malformed("batch", "%v", err)
	}
	return malformed("batch", "%s", short)
}
