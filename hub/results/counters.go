package results

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Counts are sums over everything that was ever stored, of one device or of
// all. Deleting old rows does not lower them, but for Bytes.
type Counts struct {
	Rows       int64  `json:"rows"`       // records of every kind
	Results    int64  `json:"results"`    // records that are results
	Errors     int64  `json:"errors"`     // results that say an error
	Dropped    int64  `json:"dropped"`    // by the device's own rule, as its Gap records say
	Skipped    int64  `json:"skipped"`    // see SkipTo
	Duplicates int64  `json:"duplicates"` // total only
	Bytes      int64  `json:"bytes"`      // of the rows kept; total only
	Last       uint64 `json:"last"`       // id of the newest result
	// Labels are the results by first label; see OtherLabels. They are stored
	// apart from the rest.
	Labels map[string]int64 `json:"labels,omitempty"`
}

// Figures are sums over the answers of one device with one model.
type Figures struct {
	Runs   int64   `json:"runs"`
	Errors int64   `json:"errors"`
	Micros int64   `json:"micros"` // of the answers without error
	Score  float64 `json:"score"`  // of the first label
}

// What a device sends is counted under names that it chooses. So that none
// can make the commits of others slow, each name has a key of its own, names
// are short, and there are few of them: the rest is counted under OtherLabels.
const (
	maxName         = 128   // bytes of a label, or of a model's digest
	maxDeviceLabels = 1000  // labels of one device
	maxTotalLabels  = 10000 // labels of all devices
	maxModels       = 256   // models of one device; others have no figures
)

// OtherLabels is the name under which labels are counted together that are
// longer than 128 bytes, or beyond the first 1000 of a device or the first
// 10,000 of all.
const OtherLabels = "(others)"

// stored is the stored form of a counter: of a size that no device chooses.
type stored struct {
	Counts
	LabelNames int `json:"label_names"` // keys that it has in the bucket "tally"
	ModelNames int `json:"model_names"` // keys that it has in the bucket "figure"
}

// counter is one counter in a transaction: of a device, or of all.
type counter struct {
	stored
	prefix []byte           // of its keys in the buckets "tally" and "figure"
	labels map[string]int64 // what the transaction adds
	models map[string]Figures
}

// counters are those that one transaction touches.
type counters struct {
	tx      *bbolt.Tx
	total   *counter
	devices map[wire.Device]*counter
	err     error // the first that was met
}

var (
	totalKey    = []byte("total")
	totalPrefix = []byte{0} // no tenant begins so
)

func countKey(d wire.Device) []byte { return append(append([]byte(d.Tenant), 0), d.Name...) }

func loadCounters(tx *bbolt.Tx) (*counters, error) {
	c := &counters{tx: tx, devices: map[wire.Device]*counter{}}
	c.total = c.load(totalKey, totalPrefix)
	return c, c.err
}

func (c *counters) load(key, prefix []byte) *counter {
	n := &counter{prefix: prefix, labels: map[string]int64{}, models: map[string]Figures{}}
	c.failed(readJSON(c.tx.Bucket(bucketCount).Get(key), &n.stored))
	n.Labels = nil // they have keys of their own
	return n
}

func (c *counters) failed(err error) {
	if c.err == nil {
		c.err = err
	}
}

// readJSON leaves v as it is where there is no data.
func readJSON(data []byte, v any) error {
	if data == nil {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("counter %.200q: %w", data, err)
	}
	return nil
}

func (c *counters) device(d wire.Device) *counter {
	n := c.devices[d]
	if n == nil {
		n = c.load(countKey(d), deviceKey(d))
		c.devices[d] = n
	}
	return n
}

func (c *counters) result(d wire.Device, x *index, id uint64) {
	dev := c.device(d)
	for _, n := range []*counter{dev, c.total} {
		n.Results++
		n.Last = id
		if x.Error != "" {
			n.Errors++
		}
	}
	if label := x.label(); label != "" {
		// What is too much for the device's own counter has no name in the
		// common one either: else one device could fill that alone.
		label = dev.label(c.tx, label, maxDeviceLabels)
		dev.labels[label]++
		c.total.labels[c.total.label(c.tx, label, maxTotalLabels)]++
	}
	if digest := x.Model.Digest; shortName(digest) {
		c.failed(dev.figures(c.tx, digest, x))
	}
}

// shortName reports whether s can be a name of its own: the zero byte ends a
// part of a key.
func shortName(s string) bool { return s != "" && len(s) <= maxName && !strings.Contains(s, "\x00") }

// label returns the name under which a label is counted, and notes a new one.
func (n *counter) label(tx *bbolt.Tx, label string, limit int) string {
	if label == OtherLabels || !shortName(label) {
		return OtherLabels
	}
	if _, known := n.labels[label]; known || tx.Bucket(bucketTally).Get(n.key(label)) != nil {
		return label
	}
	if n.LabelNames >= limit {
		return OtherLabels
	}
	n.LabelNames++
	return label
}

func (n *counter) key(name string) []byte { return append(slices.Clone(n.prefix), name...) }

// figures adds a result to those of its model.
func (n *counter) figures(tx *bbolt.Tx, digest string, x *index) error {
	f, known := n.models[digest]
	if !known {
		data := tx.Bucket(bucketFigure).Get(n.key(digest))
		if err := readJSON(data, &f); err != nil {
			return err
		}
		if data == nil {
			if n.ModelNames >= maxModels {
				return nil
			}
			n.ModelNames++
		}
	}
	f.Runs++
	if x.Error != "" {
		f.Errors++
	} else {
		f.Micros += x.Micros
		if len(x.Labels) > 0 {
			f.Score += float64(x.Labels[0].Score)
		}
	}
	n.models[digest] = f
	return nil
}

func (c *counters) store(tx *bbolt.Tx) error {
	if c.err != nil {
		return c.err
	}
	for d, n := range c.devices {
		if err := n.store(tx, countKey(d)); err != nil {
			return err
		}
	}
	return c.total.store(tx, totalKey)
}

func (n *counter) store(tx *bbolt.Tx, key []byte) error {
	tally := tx.Bucket(bucketTally)
	for label, more := range n.labels {
		k := n.key(label)
		if err := tally.Put(k, binary.BigEndian.AppendUint64(nil, uint64(more)+tallied(tally.Get(k)))); err != nil {
			return err
		}
	}
	for digest, f := range n.models {
		if err := putJSON(tx.Bucket(bucketFigure), n.key(digest), f); err != nil {
			return err
		}
	}
	return putJSON(tx.Bucket(bucketCount), key, n.stored)
}

func putJSON(b *bbolt.Bucket, key []byte, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, data)
}

// tallied reads a value of the bucket "tally"; none is 0.
func tallied(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// under calls use with what follows prefix in each key that begins with it.
func under(b *bbolt.Bucket, prefix []byte, use func(name string, v []byte) error) error {
	c := b.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := use(string(k[len(prefix):]), v); err != nil {
			return err
		}
	}
	return nil
}

func readCounts(tx *bbolt.Tx, key, prefix []byte) (Counts, error) {
	var n stored
	if err := readJSON(tx.Bucket(bucketCount).Get(key), &n); err != nil {
		return Counts{}, err
	}
	n.Labels = map[string]int64{}
	err := under(tx.Bucket(bucketTally), prefix, func(label string, v []byte) error {
		n.Labels[label] = int64(tallied(v))
		return nil
	})
	return n.Counts, err
}

// Total returns the counters over all devices.
func (s *Store) Total() (c Counts, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		c, err = readCounts(tx, totalKey, totalPrefix)
		return err
	})
	return c, err
}

// Device returns the counters of one device, and its figures by the digest
// of the model that answered.
func (s *Store) Device(d wire.Device) (c Counts, models map[string]Figures, err error) {
	models = map[string]Figures{}
	err = s.db.View(func(tx *bbolt.Tx) error {
		if c, err = readCounts(tx, countKey(d), deviceKey(d)); err != nil {
			return err
		}
		return under(tx.Bucket(bucketFigure), deviceKey(d), func(digest string, v []byte) error {
			var f Figures
			err := readJSON(v, &f)
			models[digest] = f
			return err
		})
	})
	return c, models, err
}
