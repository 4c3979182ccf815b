// Package results keeps what devices reported. Start with Open, Add and
// Find.
//
// Its promise: a record is stored exactly once, however often it is sent.
// (tenant, device, epoch, seq) names a record for ever; when Add returns, the
// records of its batches are on the disk and the marks it returns may be
// acknowledged. A record that a person's retention rule deleted is still
// known to have been stored.
//
// It does not look into a result beyond its model, first label, input and
// time, and it sends no acknowledgements: the hub does.
//
// The file is one bbolt database, keys in big-endian order:
//
//	row     id                               -> stored row: key, kind, body
//	rec     tenant 0 device 0 epoch 0 seq    -> id       what is stored, by name
//	device  tenant 0 device 0 id             -> ""       indexes of results, in
//	label   label 0 id                       -> ""       the order of storing
//	input   digest 0 id                      -> ""
//	mark    tenant 0 device 0 epoch          -> Mark as JSON
//	count   "total", tenant 0 device         -> counters as JSON
//	tally   0 label                          -> results with that first label, of all
//	        tenant 0 device 0 label          -> and of one device
//	figure  tenant 0 device 0 digest         -> Figures of one model as JSON
//	why     id                               -> Explanation as JSON
//	heat    id                               -> its picture, a PNG
//
// An id is the time of storing in nanoseconds since 1970, made strictly
// increasing: it orders rows, pages through them and is their time at once.
package results

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"dunlin/sync/wire"
)

var (
	bucketRow    = []byte("row")
	bucketRec    = []byte("rec")
	bucketDevice = []byte("device")
	bucketLabel  = []byte("label")
	bucketInput  = []byte("input")
	bucketMark   = []byte("mark")
	bucketCount  = []byte("count")
	bucketTally  = []byte("tally")
	bucketFigure = []byte("figure")
	bucketWhy    = []byte("why")
	bucketHeat   = []byte("heat")

	buckets = [][]byte{bucketRow, bucketRec, bucketDevice, bucketLabel, bucketInput, bucketMark, bucketCount, bucketTally, bucketFigure, bucketWhy, bucketHeat}
)

// ErrLocked means that another process has the file open.
var ErrLocked = errors.New("the results are open in another process")

// Options are the settings of a Store.
type Options struct {
	// MaxAge deletes rows that were stored longer ago; 0 keeps them. What is
	// deleted is gone from queries, not from the counters.
	MaxAge time.Duration
	// MaxBytes deletes the oldest rows while the bodies together hold more;
	// 0 keeps all. The file takes about twice the bytes of the bodies, and
	// it does not shrink: freed pages are used again.
	MaxBytes int64
	// Now tells the time; nil means time.Now.
	Now func() time.Time
}

// Store is an open file of results. It is safe for concurrent use; Add
// transactions run one at a time.
type Store struct {
	db *bbolt.DB
	o  Options
}

// Open opens or makes the file at path.
func Open(path string, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open results: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("open results %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open results %s: %w", path, err)
	}
	return &Store{db: db, o: o}, nil
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Batch is what one message of a device carried.
type Batch struct {
	Device  wire.Device
	Epoch   string
	Records []wire.Record
}

// key returns tenant 0 device 0, the beginning of every key of a device.
func deviceKey(d wire.Device) []byte {
	return append(append(append([]byte(d.Tenant), 0), d.Name...), 0)
}

func recordKey(d wire.Device, epoch string, seq int64) []byte {
	k := append(append(deviceKey(d), epoch...), 0)
	return binary.BigEndian.AppendUint64(k, uint64(seq))
}

func indexKey(value string, id uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(value), 0), id)
}

func idKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// row is the stored form of a record.
type row struct {
	Tenant string          `json:"t"`
	Device string          `json:"d"`
	Epoch  string          `json:"e"`
	Seq    int64           `json:"s"`
	Kind   wire.RecordKind `json:"k"`
	Body   json.RawMessage `json:"b"`
}

// maxIndexed bounds the length of a label or an input digest in an index; a
// longer one is found by scanning.
const maxIndexed = 512

// index is what queries look for in a result; other fields are not read.
type index struct {
	Model  wire.Running `json:"model"`
	Input  string       `json:"input"`
	Micros int64        `json:"micros"`
	Error  string       `json:"error"`
	Labels []struct {
		Label string  `json:"label"`
		Score float32 `json:"score"`
	} `json:"labels"`
}

func (x *index) label() string {
	if len(x.Labels) == 0 {
		return ""
	}
	return x.Labels[0].Label
}
