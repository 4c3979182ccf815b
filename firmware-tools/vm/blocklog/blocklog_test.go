package blocklog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

// logOf packs entries; each writes one byte value over its sectors.
type put struct {
	sector, sectors, flags uint64
	value                  byte
}

func logOf(puts ...put) []byte {
	sector := func(words ...uint64) []byte {
		b := make([]byte, Sector)
		for i, w := range words {
			binary.LittleEndian.PutUint64(b[8*i:], w)
		}
		return b
	}
	b := sector(magic, version, uint64(len(puts)), Sector)
	for _, p := range puts {
		b = append(b, sector(p.sector, p.sectors, p.flags, 0)...)
		if p.flags&(flagDiscard|flagMark) == 0 {
			b = append(b, bytes.Repeat([]byte{p.value}, int(p.sectors)*Sector)...)
		}
	}
	return b
}

type card []byte

func (c card) WriteAt(p []byte, at int64) (int, error) { return copy(c[at:], p), nil }

const cardSectors = 64

func open(t *testing.T, log []byte) *Log {
	t.Helper()
	l, err := Open(bytes.NewReader(log), int64(len(log)), cardSectors*Sector)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPlay(t *testing.T) {
	l := open(t, logOf(put{2, 3, 0, 7}, put{flags: flagFlush}, put{3, 1, 0, 9}, put{2, 1, flagDiscard, 0}, put{40, 1, flagFUA, 5}))
	c := make(card, cardSectors*Sector)
	if err := l.Play(c, 0, len(l.Entries)); err != nil {
		t.Fatal(err)
	}
	for sector, want := range map[int]byte{1: 0, 2: 0, 3: 9, 4: 7, 5: 0, 40: 5} {
		for i := range Sector {
			if got := c[sector*Sector+i]; got != want {
				t.Fatalf("sector %d, byte %d: %d, want %d", sector, i, got, want)
			}
		}
	}
	for n, want := range []int{0, 0, 2, 2, 2, 2} {
		if got := l.Durable(n); got != want {
			t.Errorf("Durable(%d) = %d, want %d", n, got, want)
		}
	}
	if got := l.At(l.Entries[2].End); got != 3 {
		t.Errorf("at the end of entry 2 there are %d, want 3", got)
	}
	if got := l.At(l.Entries[2].End - 1); got != 2 {
		t.Errorf("before the end of entry 2 there are %d, want 2", got)
	}
}

// TestCut: what was flushed is there whatever the dice say; what came after is
// there, not there and torn, each at some time; a lying card loses the rest too.
func TestCut(t *testing.T) {
	l := open(t, logOf(put{0, 4, 0, 1}, put{flags: flagFlush}, put{10, 4, 0, 2}, put{20, 1, flagFUA, 3}))
	n := len(l.Entries)
	seen := map[string]bool{}
	for seed := range uint64(60) {
		c := make(card, cardSectors*Sector)
		from := l.Durable(n)
		if err := errors.Join(l.Play(c, 0, from), l.Cut(c, from, n, rand.New(rand.NewPCG(seed, 1)))); err != nil {
			t.Fatal(err)
		}
		if c[0] != 1 || c[4*Sector-1] != 1 || c[20*Sector] != 3 {
			t.Fatalf("seed %d: what was flushed, or written through, is lost", seed)
		}
		there := 0
		for s := 10; s < 14; s++ {
			if c[s*Sector] == 2 {
				there++
			}
		}
		seen[map[bool]string{there == 0: "none", there == 4: "all", there > 0 && there < 4: "torn"}[true]] = true
		lying := make(card, cardSectors*Sector)
		if err := l.Cut(lying, 0, n, rand.New(rand.NewPCG(seed, 1))); err != nil {
			t.Fatal(err)
		}
		if lying[0] != 1 {
			seen["lied"] = true
		}
		again := make(card, cardSectors*Sector)
		if err := l.Cut(again, 0, n, rand.New(rand.NewPCG(seed, 1))); err != nil || !bytes.Equal(again, lying) {
			t.Fatalf("seed %d gives two cards (%v)", seed, err)
		}
	}
	for _, want := range []string{"none", "all", "torn", "lied"} {
		if !seen[want] {
			t.Errorf("never %s", want)
		}
	}
}

func TestOpenBad(t *testing.T) {
	good := logOf(put{2, 3, 0, 7}, put{flags: flagFlush})
	short := good[:len(good)-Sector-1] // a machine killed in the middle of the first entry
	if l := open(t, short); len(l.Entries) != 0 {
		t.Errorf("%d entries of a torn one", len(l.Entries))
	}
	for name, log := range map[string][]byte{
		"empty":         {},
		"other magic":   append([]byte{1}, good[1:]...),
		"beyond card":   logOf(put{cardSectors, 1, 0, 1}),
		"many sectors":  logOf(put{1, 1 << 62, flagDiscard, 1}),
		"unknown flags": logOf(put{1, 1, 64, 1}),
	} {
		if _, err := Open(bytes.NewReader(log), int64(len(log)), cardSectors*Sector); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(logOf(put{2, 3, 0, 7}, put{flags: flagFlush}, put{2, 1, flagDiscard, 0}, put{0, 0, flagMark, 0}))
	f.Fuzz(func(t *testing.T, log []byte) {
		l, err := Open(bytes.NewReader(log), int64(len(log)), cardSectors*Sector)
		if err != nil {
			return
		}
		c := make(card, cardSectors*Sector)
		if err := errors.Join(l.Play(c, 0, len(l.Entries)), l.Cut(c, 0, len(l.Entries), rand.New(rand.NewPCG(1, 1)))); err != nil {
			t.Fatal(err)
		}
	})
}
