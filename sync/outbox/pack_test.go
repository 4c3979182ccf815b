package outbox

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dunlin/sync/wire"
)

// resultLike is about what an agent writes of one picture; what differs from
// one result to the next is by rnd.
func resultLike(rnd *rand.Rand) []byte {
	kinds := []string{"pullover", "shirt", "trouser", "dress", "coat", "sandal", "sneaker", "bag"}
	var labels []string
	for _, i := range rnd.Perm(len(kinds))[:3] {
		labels = append(labels, fmt.Sprintf(`{"index":%d,"label":%q,"score":%v,"entity":"https://dunlin.example/garments/kind/%s"}`, i, kinds[i], rnd.Float32(), kinds[i]))
	}
	return fmt.Appendf(nil, `{"id":"01M8DK7EF7%016X","clock":{"wall":"2026-11-27T04:11:%02d.%03dZ","mono_ms":%d,"sync":"hub"},`+
		`"boot":"6f5b055c-8138-4ee4-be82-980bbd00006c","source":"http","input":"sha256:%016x%016x%016x%016x",`+
		`"model":{"name":"garments","version":2,"digest":"sha256:afb656fe45b0d77a9acb958a413f5bed6e77604c280c96fc4b743c3c763bf984"},`+
		`"labels":[%s],"micros":%d}`, rnd.Uint64(), rnd.IntN(60), rnd.IntN(1000), rnd.IntN(1_000_000),
		rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), rnd.Uint64(), strings.Join(labels, ","), rnd.IntN(100_000))
}

// putGroup puts records of these kinds in one group, and returns their bodies
// by seq.
func putGroup(t testing.TB, b *Outbox, kinds string, body func() []byte) map[int64][]byte {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	bodies := map[int64][]byte{}
	for i, k := range kinds {
		kind, text := wire.RecordResult, body()
		if k == 'p' {
			kind = wire.RecordReport
		}
		wg.Go(func() {
			seq, err := b.Put(context.Background(), kind, text)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			bodies[seq] = text
		})
		waitFor(t, func() bool { return waiting(b) == i+1 || i+1 == len(kinds) }) // in this order
	}
	wg.Wait()
	return bodies
}

// TestPacked: results of a group come back one by one, from any of them on,
// also when the file was closed between.
func TestPacked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	o := Options{FlushDelay: 1 << 40, FlushRecords: 23}
	b := openBox(t, path, o)
	rnd := rand.New(rand.NewPCG(1, 1))
	kinds := "rrpprrrrrrrrrrrrrrrrprr"
	bodies := putGroup(t, b, kinds, func() []byte { return resultLike(rnd) })
	all := strings.Fields(show(t, b, 0))
	for i, k := range kinds {
		expect(t, "record", all[i], fmt.Sprintf("%c%d", k, i+1))
	}
	for range 2 {
		for from := int64(1); from <= 24; from++ {
			records, err := b.Next(from, 3, math.MaxInt)
			if err != nil || len(records) != int(min(3, 24-from)) {
				t.Fatalf("from %d: %d records, %v", from, len(records), err)
			}
			for i, r := range records {
				if r.Seq != from+int64(i) || !bytes.Equal(r.Body, bodies[r.Seq]) {
					t.Errorf("from %d: record %d is %d, %s", from, i, r.Seq, r.Body)
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = openBox(t, path, o)
	}
	// 5 to 12 stand together, and go together; meanwhile they are not given out.
	if err := b.Ack(b.Epoch(), 8); err != nil {
		t.Fatal(err)
	}
	expect(t, "acknowledged", show(t, b, 0), strings.Join(all[7:], " "))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, path, o)
	expect(t, "opened again", show(t, b, 0), strings.Join(all[4:], " "))
	if err := b.Ack(b.Epoch(), 24); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, path, o)
	if got, want := b.State(), (wire.OutboxState{First: 24, Next: 24}); got != want || b.Bytes() != 0 {
		t.Errorf("emptied: %+v, want %+v; %d bytes", got, want, b.Bytes())
	}
}

// TestPackedDamage: results that stand together are lost together, and a Gap
// says how many.
func TestPackedDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	b := openBox(t, path, Options{FlushDelay: 1 << 40, FlushRecords: 20})
	rnd := rand.New(rand.NewPCG(2, 1))
	putGroup(t, b, "rrrrrrrrrrrrrrrrrrrp", func() []byte { return resultLike(rnd) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	damageAt(t, path, 9)
	b = openBox(t, path, quick)
	expect(t, "records", show(t, b, 0), "r1 r2 r3 r4 r5 r6 r7 r8 g9+8 r17 r18 r19 p20")
	expect(t, "from inside", show(t, b, 12), "g12+5 r17 r18 r19 p20")
	if got := b.State().Dropped; got != 8 {
		t.Errorf("%d dropped", got)
	}
}

// TestDamageWhileRunning: what Next cannot read back is counted once, also where
// it is then acknowledged, past the quota, or met by the next Open.
func TestDamageWhileRunning(t *testing.T) {
	for name, c := range map[string]struct {
		upto, maxBytes int64
		groups         int // put after the damage
		dropped        int64
	}{
		"opened again":      {groups: 0, dropped: 8},
		"replaced":          {groups: 1, dropped: 8},
		"acknowledged":      {upto: 17, groups: 1, dropped: 8},
		"acknowledged half": {upto: 12, groups: 1, dropped: 8},
		"past the quota":    {maxBytes: 3 << 10, groups: 4, dropped: 32},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "outbox")
			rnd := rand.New(rand.NewPCG(8, 1))
			put := func(b *Outbox) { putGroup(t, b, "rrrrrrrr", func() []byte { return resultLike(rnd) }) }
			o := Options{FlushDelay: 1 << 40, FlushRecords: 8, MaxBytes: c.maxBytes}
			b := openBox(t, path, o)
			put(b)
			put(b)
			damageAt(t, path, 9)
			for range 2 {
				expect(t, "records", show(t, b, 0), "r1 r2 r3 r4 r5 r6 r7 r8 g9+8")
				if got := b.State().Dropped; got != 8 {
					t.Errorf("%d dropped when it was met", got)
				}
			}
			if err := b.Ack(b.Epoch(), max(c.upto, 1)); err != nil {
				t.Fatal(err)
			}
			for range c.groups {
				put(b)
			}
			before, state := show(t, b, 0), b.State()
			closeBox(t, b)
			b = openBox(t, path, o)
			if state.Dropped != c.dropped || b.State() != state {
				t.Errorf("state %+v, opened again %+v, want %d dropped", state, b.State(), c.dropped)
			}
			expect(t, "opened again", show(t, b, 0), before)
		})
	}
}

// damageAt changes the packed value at seq in the file, which may be open:
// also what is left of it on pages that are free.
func damageAt(t *testing.T, path string, seq int64) {
	t.Helper()
	data, key := readAll(t, path), append(keyOf(seq), markPacked)
	if !bytes.Contains(data, key) {
		t.Fatalf("nothing is packed at %d", seq)
	}
	for at := range data {
		if bytes.HasPrefix(data[at:], key) {
			overwrite(t, path, int64(at+len(key)), []byte{^data[at+len(key)]}) // of its checksum
		}
	}
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPackedQuota: results that stand together are dropped together, reports
// between them stay.
func TestPackedQuota(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 1))
	b := newBox(t, Options{FlushDelay: 1 << 40, FlushRecords: 20, MaxBytes: 5 << 10})
	one := func() []byte { return resultLike(rnd) }
	putGroup(t, b, "rrrrrrrrprrrrrrrrrrr", one)
	expect(t, "a group", show(t, b, 0), "r1 r2 r3 r4 r5 r6 r7 r8 p9 r10 r11 r12 r13 r14 r15 r16 r17 r18 r19 r20")
	putGroup(t, b, "rrrrrrrrprrrrrrrrrrr", one)
	got, kept := show(t, b, 0), " r21 r22 r23 r24 r25 r26 r27 r28 p29 r30 r31 r32 r33 r34 r35 r36 r37 r38 r39 r40"
	if got != "g1+8 p9 g10+8 r18 r19 r20"+kept && got != "g1+8 p9 g10+11"+kept {
		t.Errorf("two: %q", got)
	}
	if d := b.State().Dropped; b.Bytes() > 5<<10 || d != 16 && d != 19 {
		t.Errorf("%d bytes, %d dropped", b.Bytes(), d)
	}
}

// TestPackedSize: what stands on the disk of a result in a group is a third of
// it at most.
func TestPackedSize(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 1))
	b := newBox(t, Options{FlushDelay: 1 << 40, FlushRecords: 96, FlushBytes: 1 << 20})
	size := 0
	for _, body := range putGroup(t, b, strings.Repeat("r", 96), func() []byte { return resultLike(rnd) }) {
		size += len(body)
	}
	t.Logf("96 results of %d bytes take %d each", size/96, b.Bytes()/96)
	if b.Bytes()*3 > int64(size) {
		t.Errorf("%d bytes are kept as %d", size, b.Bytes())
	}
}

// FuzzUnpack: what no packer made is an error, and asks for no more memory
// than what one made.
func FuzzUnpack(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 1))
	var entries []*entry
	for range packMost {
		entries = append(entries, &entry{kind: wire.RecordResult, body: resultLike(rnd)})
		if len(entries) > 1 {
			v, err := valueOf(1, entries)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(v)
		}
	}
	long := []*entry{{body: bytes.Repeat([]byte(" "), wire.MaxBody)}, {body: bytes.Repeat([]byte(" "), wire.MaxBody)}}
	bomb, err := valueOf(1, long)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := unpack(1, bomb); err == nil {
		f.Error("more is unpacked than is ever packed")
	}
	f.Add(bomb)
	f.Fuzz(func(t *testing.T, v []byte) {
		records, err := unpack(7, v)
		if err != nil {
			return
		}
		size := 0
		for i, r := range records {
			size += len(r.Body)
			if r.Seq != 7+int64(i) || r.Kind != wire.RecordResult {
				t.Errorf("result %d is %+v", i, r)
			}
		}
		if len(records) < 2 || len(records) > packMost || size > packBytes+2*packMost {
			t.Errorf("%d results of %d bytes", len(records), size)
		}
	})
}
