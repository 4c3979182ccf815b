package results

import (
	"encoding/json"
	"fmt"
	"maps"

	"go.etcd.io/bbolt"

	"dunlin/sync/wire"
)

// Counts are sums over everything that was ever stored, of one device or of
// all. Deleting old rows does not lower them, but for Bytes.
type Counts struct {
	Rows       int64            `json:"rows"`       // records of every kind
	Results    int64            `json:"results"`    // records that are results
	Errors     int64            `json:"errors"`     // results that say an error
	Dropped    int64            `json:"dropped"`    // by the device's own rule, as its Gap records say
	Skipped    int64            `json:"skipped"`    // see SkipTo
	Duplicates int64            `json:"duplicates"` // total only
	Bytes      int64            `json:"bytes"`      // of the rows kept; total only
	Last       uint64           `json:"last"`       // id of the newest result
	Labels     map[string]int64 `json:"labels"`     // results by first label
}

// Figures are sums over the answers of one device with one model.
type Figures struct {
	Runs   int64   `json:"runs"`
	Errors int64   `json:"errors"`
	Micros int64   `json:"micros"` // of the answers without error
	Score  float64 `json:"score"`  // of the first label
}

// maxLabels bounds the labels that are counted one by one; the others are
// counted under OtherLabels.
const maxLabels = 10000

// OtherLabels is the name under which labels beyond the first 10,000 of a
// counter are counted together.
const OtherLabels = "(others)"

// deviceCounts is the stored form of a device's counters.
type deviceCounts struct {
	Counts
	Models map[string]Figures `json:"models,omitempty"` // by manifest digest
}

// maxModels bounds the models with figures of their own for each device.
const maxModels = 256

// counters are those that one transaction touches.
type counters struct {
	tx      *bbolt.Tx
	total   Counts
	devices map[wire.Device]*deviceCounts
	err     error // the first that device met
}

var totalKey = []byte("total")

func countKey(d wire.Device) []byte { return append(append([]byte(d.Tenant), 0), d.Name...) }

func loadCounters(tx *bbolt.Tx) (*counters, error) {
	c := &counters{tx: tx, devices: map[wire.Device]*deviceCounts{}}
	return c, readJSON(tx.Bucket(bucketCount), totalKey, &c.total)
}

// readJSON leaves v as it is where b has no such key.
func readJSON(b *bbolt.Bucket, key []byte, v any) error {
	data := b.Get(key)
	if data == nil {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("counter %q: %w", key, err)
	}
	return nil
}

func (c *counters) device(d wire.Device) *deviceCounts {
	n := c.devices[d]
	if n == nil {
		n = &deviceCounts{}
		if err := readJSON(c.tx.Bucket(bucketCount), countKey(d), n); err != nil && c.err == nil {
			c.err = err
		}
		c.devices[d] = n
	}
	return n
}

func (c *counters) result(d wire.Device, x *index, id uint64) {
	dev := c.device(d)
	for _, n := range []*Counts{&c.total, &dev.Counts} {
		n.Results++
		n.Last = id
		if x.Error != "" {
			n.Errors++
		}
		if label := x.label(); label != "" {
			if n.Labels == nil {
				n.Labels = map[string]int64{}
			}
			if _, known := n.Labels[label]; !known && len(n.Labels) >= maxLabels {
				label = OtherLabels
			}
			n.Labels[label]++
		}
	}
	dev.figures(x)
}

func (n *deviceCounts) figures(x *index) {
	digest := x.Model.Digest
	if digest == "" || len(digest) > maxIndexed {
		return
	}
	if n.Models == nil {
		n.Models = map[string]Figures{}
	}
	f, known := n.Models[digest]
	if !known && len(n.Models) >= maxModels {
		return
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
	n.Models[digest] = f
}

func (c *counters) store(tx *bbolt.Tx) error {
	if c.err != nil {
		return c.err
	}
	b := tx.Bucket(bucketCount)
	put := func(key []byte, v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return b.Put(key, data)
	}
	for d, n := range c.devices {
		if err := put(countKey(d), n); err != nil {
			return err
		}
	}
	return put(totalKey, c.total)
}

// Total returns the counters over all devices.
func (s *Store) Total() (c Counts, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error { return readJSON(tx.Bucket(bucketCount), totalKey, &c) })
	return c, err
}

// Device returns the counters of one device, and its figures by the digest
// of the model that answered.
func (s *Store) Device(d wire.Device) (Counts, map[string]Figures, error) {
	var n deviceCounts
	err := s.db.View(func(tx *bbolt.Tx) error { return readJSON(tx.Bucket(bucketCount), countKey(d), &n) })
	return n.Counts, maps.Clone(n.Models), err
}
