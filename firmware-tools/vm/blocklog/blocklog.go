// Package blocklog reads the log of every write and flush that a virtual board
// sent to its card, as QEMU's blklogwrites keeps it, and makes of it the cards
// that a power cut could have left. Start with Open, Log.Durable and Log.Cut.
//
// Its promise: a card that Cut makes is one that a disk which keeps its word
// about flushes could hold. It does not know what a file system is; who looks
// at the card is the caller.
//
// # The log
//
// The form is that of Linux's dm-log-writes
// (Documentation/admin-guide/device-mapper/log-writes.rst), little-endian, each
// head in a sector of its own:
//
//	super   0 magic u64   8 version u64   16 entries u64   24 sector size u32
//	entry   0 sector u64  8 sectors u64   16 flags u64     24 length of a mark u64; then the data
//
// # What a cut leaves
//
//	entries   w w w F w w F w w w | n
//	          durable       |  each of these: there, not there, or some sectors of it
//
// A write that was sent but not finished when a flush was sent counts as
// durable after it, although a disk need not see it so: a file system that
// waits for its writes before it flushes, as Linux's do, never relies on one.
package blocklog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

const (
	magic   = 0x6a736677736872
	version = 1

	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	flagMark    = 8

	headSize = 32
)

// ErrForm means that a file is no such log, or a damaged one.
var ErrForm = errors.New("not a log of block writes")

// Entry is one request that the card got.
type Entry struct {
	Offset  int64 // on the card, in bytes
	Length  int64 // of what is written or discarded there
	Flush   bool  // what came before is durable when it is done
	FUA     bool  // it is durable itself when it is done
	Discard bool  // it has no data: the range reads as zeros
	End     int64 // position in the log behind it

	data int64 // position in the log
}

// Log is an open log.
type Log struct {
	Entries []Entry
	r       io.ReaderAt
}

// maxEntries bounds the memory that a damaged head can ask for.
const maxEntries = 1 << 24

// Open reads the heads of a log of size bytes. A log that ends within an entry,
// as that of a machine that was killed does, ends before it. Other damage is an
// error that wraps ErrForm. card is the card's size in bytes: a write beyond it
// is damage.
func Open(r io.ReaderAt, size, card int64) (*Log, error) {
	var head [headSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	le := binary.LittleEndian
	if le.Uint64(head[:]) != magic || le.Uint64(head[8:]) != version || le.Uint32(head[24:]) != Sector {
		return nil, fmt.Errorf("%w: magic %#x, version %d, sectors of %d bytes", ErrForm, le.Uint64(head[:]), le.Uint64(head[8:]), le.Uint32(head[24:]))
	}
	l := &Log{r: r}
	for at := int64(Sector); at+Sector <= size && len(l.Entries) < maxEntries; {
		if _, err := r.ReadAt(head[:], at); err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(l.Entries), err)
		}
		sector, sectors, flags := le.Uint64(head[:]), le.Uint64(head[8:]), le.Uint64(head[16:])
		if flags&^(flagFlush|flagFUA|flagDiscard|flagMark) != 0 || sector > uint64(card)/Sector || sectors > uint64(card)/Sector-sector {
			return nil, fmt.Errorf("%w: entry %d: flags %#x, %d sectors at %d of %d", ErrForm, len(l.Entries), flags, sectors, sector, card/Sector)
		}
		e := Entry{
			Offset: int64(sector) * Sector, Length: int64(sectors) * Sector,
			Flush: flags&flagFlush != 0, FUA: flags&flagFUA != 0, Discard: flags&flagDiscard != 0, data: at + Sector,
		}
		e.End = e.data
		switch {
		case flags&flagMark != 0:
			text := le.Uint64(head[24:])
			if text > uint64(size) {
				return nil, fmt.Errorf("%w: entry %d: a mark of %d bytes", ErrForm, len(l.Entries), text)
			}
			e.End += (int64(text) + Sector - 1) / Sector * Sector
			e.Length = 0
		case !e.Discard:
			e.End += e.Length
		}
		if e.End > size {
			break
		}
		at = e.End
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// Durable returns how many of the first n entries a disk holds for certain
// that got no others: those up to the last flush among them. One written with
// FUA behind it is certain too, which Cut knows.
func (l *Log) Durable(n int) int {
	for n > 0 && !l.Entries[n-1].Flush {
		n--
	}
	return n
}

// At returns how many entries there were when the log had that length.
func (l *Log) At(length int64) int {
	n := 0
	for n < len(l.Entries) && l.Entries[n].End <= length {
		n++
	}
	return n
}

// Play writes entries from to to-1 to the card, all of them.
func (l *Log) Play(card io.WriterAt, from, to int) error {
	for i := from; i < to; i++ {
		if err := l.write(card, i, func() bool { return true }); err != nil {
			return err
		}
	}
	return nil
}

// Cut writes of entries from to to-1 what a power cut may leave of them: of
// three, one is there, one is not, and of one each sector is there or not, by
// rnd. A card that keeps its word is one that held l.Durable(to) entries before,
// with from the same number; an earlier from is a card that lies.
func (l *Log) Cut(card io.WriterAt, from, to int, rnd *rand.Rand) error {
	for i := from; i < to; i++ {
		fate := rnd.IntN(3)
		keep := func() bool { return fate == 0 || fate == 2 && rnd.IntN(2) == 0 }
		if l.Entries[i].FUA && from >= l.Durable(to) {
			keep = func() bool { return true }
		}
		if err := l.write(card, i, keep); err != nil {
			return err
		}
	}
	return nil
}

// write writes those sectors of entry i for which keep is true.
func (l *Log) write(card io.WriterAt, i int, keep func() bool) error {
	e := l.Entries[i]
	var buf [64 * Sector]byte
	for done := int64(0); done < e.Length; {
		part := buf[:min(int64(len(buf)), e.Length-done)]
		clear(part)
		if !e.Discard {
			if _, err := l.r.ReadAt(part, e.data+done); err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
		}
		for at := int64(0); at < int64(len(part)); {
			n := at
			for n < int64(len(part)) && keep() {
				n += Sector
			}
			if n > at {
				if _, err := card.WriteAt(part[at:n], e.Offset+done+at); err != nil {
					return fmt.Errorf("entry %d: %w", i, err)
				}
			}
			at = n + Sector // the one that is not kept
		}
		done += int64(len(part))
	}
	return nil
}
