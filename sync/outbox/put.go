package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// group is the records of one commit to come. Whoever adds the first starts
// the timer; whoever fills it, or the timer, commits it.
type group struct {
	entries []*entry
	bytes   int
	timer   *time.Timer // nil with Options.Each
	done    chan struct{}
}

// entry is one Put. seq and err are set before the group's done is closed.
type entry struct {
	kind wire.RecordKind
	body []byte
	seq  int64
	err  error
}

// Put adds a record and returns its seq once it is on the disk. Body is a JSON
// value of at most wire.MaxBody bytes; kind is RecordResult or RecordReport.
//
// Where it returns an error the record is not in the outbox, also when ctx
// ended: it is then taken out of its group, or, when the group is already on
// its way to the disk, waited for. Errors wrap ErrNoSpace (try again later),
// ErrFull (reports fill MaxBytes), ErrRecord, ErrClosed or ErrBroken.
func (b *Outbox) Put(ctx context.Context, kind wire.RecordKind, body []byte) (int64, error) {
	if err := checkRecord(kind, body); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("put %s: %w", kind, err)
	}
	e := &entry{kind: kind, body: body}
	g, full, err := b.join(e)
	if err != nil {
		return 0, err
	}
	if full {
		_ = b.commit(g, running) // each entry gets its own error
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		if b.leave(g, e) {
			return 0, fmt.Errorf("put %s: %w", kind, ctx.Err())
		}
		<-g.done
	}
	if e.err != nil {
		return 0, fmt.Errorf("put %s: %w", kind, e.err)
	}
	return e.seq, nil
}

func (b *Outbox) join(e *entry) (g *group, full bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, false, b.err
	}
	if b.group == nil {
		g := &group{done: make(chan struct{})}
		if !b.o.Each {
			g.timer = time.AfterFunc(b.o.FlushDelay, func() { _ = b.commit(g, running) })
		}
		b.group = g
	}
	g = b.group
	g.entries = append(g.entries, e)
	g.bytes += len(e.body)
	return g, b.o.Each || len(g.entries) >= b.o.FlushRecords || g.bytes >= b.o.FlushBytes, nil
}

// leave takes e out of g, unless g is being committed.
func (b *Outbox) leave(g *group, e *entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.group != g {
		return false
	}
	for i, other := range g.entries {
		if other == e {
			g.entries = append(g.entries[:i], g.entries[i+1:]...)
			g.bytes -= len(e.body)
			break
		}
	}
	return true
}

// mode says what a commit is for.
type mode int

const (
	running mode = iota // the group given, if nobody has committed it yet
	acking              // deletes what was acknowledged, takes the open group along
	closing             // the same, and no other will follow
)

// commit writes the open group and deletes what was acknowledged, in one
// transaction. The group it takes is closed to others when it has the lock,
// not before: while one group is being synced the next one grows.
func (b *Outbox) commit(g *group, m mode) error {
	b.commitMu.Lock()
	defer b.commitMu.Unlock()
	b.mu.Lock()
	if m == running && b.group != g {
		b.mu.Unlock()
		return nil
	}
	g, b.group = b.group, nil
	first, err := b.first, b.err
	if m == closing && err == nil {
		b.err = ErrClosed
	}
	b.mu.Unlock()
	if g == nil {
		g = &group{done: make(chan struct{})}
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	defer close(g.done)
	if err == nil && (len(g.entries) > 0 || first > b.disk.first) {
		err = b.write(g, first)
	}
	if err != nil {
		for _, e := range g.entries {
			e.seq, e.err = 0, err
		}
	}
	return err
}

// write runs the transaction and, when it holds, tells the world.
func (b *Outbox) write(g *group, first int64) error {
	d := b.disk
	b.mu.Lock()
	damaged := maps.Clone(b.damaged)
	b.mu.Unlock()
	err := guarded(func() error {
		return b.db.Update(func(tx *bolt.Tx) error {
			t := b.transaction(tx, d)
			if err := t.run(g.entries, first, damaged); err != nil {
				return err
			}
			d = t.d
			return nil
		})
	})
	if err != nil {
		return b.failed(err)
	}
	b.disk = d
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next, b.bytes, b.unswept = d.next, d.bytes, b.first-first
	b.dropped = d.dropped
	for seq := range damaged {
		delete(b.damaged, seq)
	}
	if len(g.entries) > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
	}
	return nil
}

// failed decides what a failed transaction means. A full disk leaves the file
// as it was: data pages are written before the page that makes them count.
// But where that page was written and its sync failed, the file may hold the
// records or not, and only opening it again tells which.
func (b *Outbox) failed(err error) error {
	full := durable.IsNoSpace(err)
	intact := false
	if full {
		viewErr := guarded(func() error {
			return b.db.View(func(tx *bolt.Tx) error {
				intact = int64(tx.Bucket(bucketRecords).Sequence()) == b.disk.next-1
				return nil
			})
		})
		intact = intact && viewErr == nil
	}
	if full && intact {
		return fmt.Errorf("outbox %s: %w: %w", b.path, ErrNoSpace, err)
	}
	err = fmt.Errorf("outbox %s: %w: %w", b.path, ErrBroken, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || errors.Is(b.err, ErrClosed) {
		b.err = err
	}
	return err
}

// guarded turns a panic of bbolt, and a fault in the file it has mapped, into
// an error: both come from what the disk holds.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damage{fmt.Errorf("%v", r)}
		}
	}()
	return do()
}

// transaction is one commit on its way; d becomes the disk's state when it
// holds.
type transaction struct {
	records, meta *bolt.Bucket
	d             disk
	max           int64
	plain         bool // packs nothing
}

func (b *Outbox) transaction(tx *bolt.Tx, d disk) transaction {
	t := transaction{records: tx.Bucket(bucketRecords), meta: tx.Bucket(bucketMeta), d: d, max: b.o.MaxBytes, plain: b.o.Strict}
	t.records.FillPercent = 1 // keys only grow: no page is ever inserted into
	return t
}

func (t *transaction) run(entries []*entry, first int64, damaged map[int64]int64) error {
	if err := t.replaceDamaged(damaged); err != nil {
		return err
	}
	if err := t.deleteBelow(first); err != nil {
		return err
	}
	for len(entries) > 0 {
		n := 1
		if !t.plain {
			n = together(entries)
		}
		if err := t.add(entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	layout := layoutPlain
	if t.d.packed > 0 {
		layout = layoutPacked
	}
	return errors.Join(
		t.meta.Put(keyVersion, []byte(layout)),
		t.meta.Put(keyDropped, []byte(strconv.FormatInt(t.d.dropped, 10))))
}

// replaceDamaged puts a Gap in the place of each damaged value, given by its
// seq and how many records it had.
func (t *transaction) replaceDamaged(damaged map[int64]int64) error {
	for seq, n := range damaged {
		v := t.records.Get(keyOf(seq))
		if v == nil || mark(v) == markGap {
			continue // an earlier commit counted it, while Next read
		}
		if err := t.remove(seq, v); err != nil {
			return err
		}
		if err := t.putGap(wire.Gap{First: seq, Count: n, Why: wire.GapDamaged}); err != nil {
			return err
		}
		t.d.dropped += n
	}
	return nil
}

// add puts what makes one value, or none of it where there is no room.
func (t *transaction) add(entries []*entry) error {
	seq := t.d.next
	v, err := valueOf(seq, entries)
	if err != nil {
		return err
	}
	size := cost(len(v))
	if err := t.makeRoom(size); err != nil {
		return err
	}
	if t.d.bytes+size > t.max {
		for _, e := range entries {
			e.seq, e.err = 0, ErrFull
		}
		return nil
	}
	for i, e := range entries {
		e.seq, e.err = seq+int64(i), nil
	}
	t.d.next = seq + int64(len(entries))
	if err := t.records.SetSequence(uint64(t.d.next - 1)); err != nil {
		return err
	}
	return t.put(seq, v)
}

func (t *transaction) put(seq int64, v []byte) error {
	t.d.count(v, 1)
	return t.records.Put(keyOf(seq), v)
}

// count adds a value n times.
func (d *disk) count(v []byte, n int64) {
	d.bytes += n * cost(len(v))
	if mark(v) == markPacked {
		d.packed += n
	}
}

func (t *transaction) putGap(g wire.Gap) error {
	r := wire.GapRecord(g)
	return t.put(r.Seq, encodeValue(r))
}

func (t *transaction) remove(seq int64, v []byte) error {
	t.d.count(v, -1)
	return t.records.Delete(keyOf(seq))
}
