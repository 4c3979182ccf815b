package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"dunlin/internal/durable"
	"dunlin/train/head"
)

// lessons keeps what a device was taught, in a bbolt file of its own: features
// with their classes, never the pictures. What was added is on the disk, whole,
// before add returns.
//
// There is room for a number of samples. When it is full, a new one takes the
// place of a random one of the class that has most; one of a class that once
// had most takes the place of a random one of its own, with the chance that
// keeps all that ever came equally likely to be there (class-balancing
// reservoir sampling: Chrysakis, Moens 2020, ICML, algorithm 1).
//
// A sample that is there already is not kept twice: the check of a head would
// take what it was trained on for something new. With another label it
// replaces the one that is there.
type lessons struct {
	db    *bolt.DB
	max   int
	about about
	class []int    // of each sample, by its place
	sums  []uint64 // likewise, of its feature
}

// about is what the file says of its samples.
type about struct {
	Digest string        `json:"digest"` // of the signed model whose backbone made the features
	Bytes  int           `json:"bytes"`  // of a feature
	Seen   int64         `json:"seen"`   // samples that ever came and were not there already
	By     map[int]int64 `json:"by"`     // likewise, by class
	Full   map[int]bool  `json:"full"`   // classes that had most samples when there was no room
	Last   *Training     `json:"last,omitempty"`
}

// Training is how one went, or goes.
type Training struct {
	At    time.Time `json:"at"`
	Seen  int64     `json:"seen"`            // samples that had come before it
	Tries int       `json:"tries,omitempty"` // how often it was begun; 0: it ended
	Ended string    `json:"ended,omitempty"` // "active", "reverted", "refused" or "failed"
	Why   string    `json:"why,omitempty"`
	Head  int64     `json:"head,omitempty"` // number of the head that came of it
	*head.Outcome
}

var (
	bucketAbout   = []byte("about")
	bucketSamples = []byte("samples") // place, 4 bytes -> class, 4 bytes, and the feature
	keyAbout      = []byte("about")
)

// maxFeatureBytes bounds all features together: they are in memory while the
// head is trained.
const maxFeatureBytes = 16 << 20

func openLessons(path string, most int, log *slog.Logger) (*lessons, error) {
	l, err := readLessons(path, most, log)
	if !errors.As(err, new(torn)) {
		return l, err
	}
	log.Error("lessons cannot be read, moved aside", "file", path, keyError, err)
	if err := durable.Rename(path, path+".bad"); err != nil {
		return nil, err
	}
	return readLessons(path, most, log)
}

func readLessons(path string, most int, log *slog.Logger) (*lessons, error) {
	db, err := openDB(path, log, bucketAbout, bucketSamples)
	if err != nil {
		return nil, err
	}
	l := &lessons{db: db, max: most}
	if err := l.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("lessons: %w", torn{err}), db.Close())
	}
	return l, nil
}

func (l *lessons) close() error { return l.db.Close() }

// read fills about and class. A sample that is not as long as the others, or
// beyond the room there is, is left out; the next add writes over it.
func (l *lessons) read() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page can point beyond the file
	defer func() {
		if r := recover(); r != nil { // bbolt panics on some broken pages
			err = fmt.Errorf("%v", r)
		}
	}()
	return l.db.View(func(tx *bolt.Tx) error {
		if data := tx.Bucket(bucketAbout).Get(keyAbout); data != nil {
			if err := json.Unmarshal(data, &l.about); err != nil {
				return err
			}
		}
		l.about.fill()
		c := tx.Bucket(bucketSamples).Cursor()
		for k, v := c.First(); len(k) == 4 && len(v) == 4+l.about.Bytes; k, v = c.Next() {
			if int(binary.BigEndian.Uint32(k)) != len(l.class) || len(l.class) == l.room() {
				break
			}
			l.class = append(l.class, int(binary.LittleEndian.Uint32(v)))
			l.sums = append(l.sums, sumOf(v[4:]))
		}
		return nil
	})
}

func sumOf(feature []byte) uint64 {
	h := fnv.New64a()
	h.Write(feature)
	return h.Sum64()
}

func (a *about) fill() {
	if a.By == nil {
		a.By = map[int]int64{}
	}
	if a.Full == nil {
		a.Full = map[int]bool{}
	}
}

// room returns how many samples are kept.
func (l *lessons) room() int {
	return min(l.max, maxFeatureBytes/max(1, l.about.Bytes))
}

// of makes the file that of a model: what another's backbone made is dropped.
func (l *lessons) of(digest string, bytes int) error {
	if l.about.Digest == digest && l.about.Bytes == bytes {
		return nil
	}
	return l.clear(digest, bytes)
}

// clear drops every sample.
func (l *lessons) clear(digest string, bytes int) error {
	fresh := about{Digest: digest, Bytes: bytes}
	fresh.fill()
	err := l.db.Update(func(tx *bolt.Tx) error {
		if err := tx.DeleteBucket(bucketSamples); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(bucketSamples); err != nil {
			return err
		}
		return putAbout(tx, fresh)
	})
	if err != nil {
		return fmt.Errorf("lessons: %w", err)
	}
	l.about, l.class, l.sums = fresh, nil, nil
	return nil
}

func putAbout(tx *bolt.Tx, a about) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketAbout).Put(keyAbout, data)
}

// add keeps samples, all or none.
func (l *lessons) add(samples []head.Sample) error {
	a, class, sums := l.about, slices.Clone(l.class), slices.Clone(l.sums)
	a.By, a.Full = maps.Clone(a.By), maps.Clone(a.Full)
	err := l.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketSamples)
		for _, s := range samples {
			sum := sumOf(s.Feature)
			at := slices.Index(sums, sum)
			switch {
			case at < 0:
				if at, class = a.place(class, s.Class, l.room()); at < 0 {
					continue
				}
				if at == len(sums) {
					sums = append(sums, 0)
				}
			case class[at] == s.Class:
				continue
			default: // the label was wrong before, or the sums of two features are the same by chance
				a.Seen++
				a.By[s.Class]++
			}
			class[at], sums[at] = s.Class, sum
			value := append(binary.LittleEndian.AppendUint32(nil, uint32(s.Class)), s.Feature...)
			if err := b.Put(place(at), value); err != nil {
				return err
			}
		}
		return putAbout(tx, a)
	})
	if err != nil {
		return fmt.Errorf("lessons: %w", err)
	}
	l.about, l.class, l.sums = a, class, sums
	return nil
}

// place is the key of a sample.
func place(at int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(at)) }

// place returns where a sample of class c goes, -1 for nowhere, and the
// classes by place then. The same samples in the same order get the same
// places.
func (a *about) place(class []int, c, room int) (int, []int) {
	a.Seen++
	a.By[c]++
	if len(class) < room {
		return len(class), append(class, c)
	}
	random := rand.New(rand.NewPCG(1, uint64(a.Seen)))
	stored := map[int]int{}
	most := 0
	for _, k := range class {
		stored[k]++
		most = max(most, stored[k])
	}
	for k, n := range stored {
		if n == most {
			a.Full[k] = true
		}
	}
	nth := 0
	from := func(k int) bool { return stored[k] == most }
	if a.Full[c] {
		if nth = int(random.Uint64N(uint64(a.By[c]))); nth >= stored[c] {
			return -1, class
		}
		from = func(k int) bool { return k == c }
	} else {
		n := 0
		for _, k := range class {
			if from(k) {
				n++
			}
		}
		nth = random.IntN(n)
	}
	for i, k := range class {
		if from(k) {
			if nth == 0 {
				class[i] = c
				return i, class
			}
			nth--
		}
	}
	return -1, class
}

// all reads the samples.
func (l *lessons) all() (samples []head.Sample, err error) {
	err = l.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketSamples)
		for i, c := range l.class {
			v := b.Get(place(i))
			if len(v) != 4+l.about.Bytes {
				return fmt.Errorf("sample %d has %d bytes, want %d", i, len(v), 4+l.about.Bytes)
			}
			samples = append(samples, head.Sample{Class: c, Feature: slices.Clone(v[4:])})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lessons: %w", err)
	}
	return samples, nil
}

// ended remembers how a training goes, or went.
func (l *lessons) ended(last *Training) error {
	a, kept := l.about, *last // the caller goes on writing to its own
	a.Last = &kept
	if err := l.db.Update(func(tx *bolt.Tx) error { return putAbout(tx, a) }); err != nil {
		return fmt.Errorf("lessons: %w", err)
	}
	l.about = a
	return nil
}

// counts returns how many samples of each class are kept.
func (l *lessons) counts() map[int]int {
	n := map[int]int{}
	for _, c := range l.class {
		n[c]++
	}
	return n
}
