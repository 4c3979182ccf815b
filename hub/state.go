package hub

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/sync/wire"
)

// The fleet's state lives in memory, and each change of it in hub.db:
//
//	device   tenant/name -> record
//	command  id          -> api.Command
//	rollout  id          -> rollout.State
//	claim    id          -> claim
//	meta     "graph"     -> name of the graph that devices should have
//
// What a person or a rollout decided is committed before it is acted upon.
// What a device said of itself is committed within flushEvery, because it
// will say it again.
var (
	bucketDevice  = []byte("device")
	bucketCommand = []byte("command")
	bucketRollout = []byte("rollout")
	bucketMeta    = []byte("meta")
	bucketClaim   = []byte("claim")

	keyGraph = []byte("graph")
)

// ErrInUse means that another hub runs in the folder.
var ErrInUse = errors.New("another hub uses this folder")

// record is the stored form of a device.
type record struct {
	Tenant   string         `json:"tenant"`
	Name     string         `json:"name"`
	Hash     []byte         `json:"hash"` // SHA-256 of its secret, which is random and long
	Created  time.Time      `json:"created"`
	Gen      int64          `json:"gen"`
	Desired  *wire.Desired  `json:"desired,omitempty"`
	Hello    *wire.Hello    `json:"hello,omitempty"`
	Reported *wire.Reported `json:"reported,omitempty"`
	Online   bool           `json:"online"`
	LastSeen time.Time      `json:"last_seen,omitzero"`
}

// device is a record and what is forgotten at the end of the process.
type device struct {
	record
	published int64 // generation that was published over the present connection
	dirty     bool  // the record is newer than the file
}

func (r *record) id() wire.Device { return wire.Device{Tenant: r.Tenant, Name: r.Name} }

func (r *record) key() (k [sha256.Size]byte) {
	copy(k[:], r.Hash)
	return k
}

// state is what Hub.mu guards.
type state struct {
	devices  map[wire.Device]*device
	clients  map[string]*device            // by MQTT client id
	secrets  map[[sha256.Size]byte]*device // by hash
	commands map[string]*command
	rollouts map[string]rollout.State
	claims   map[string]*claim
	unknown  unknown
	graph    string // that devices should have, "" for none
}

func (h *Hub) openState(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		err = ErrInUse
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	h.db = db
	h.state = state{
		devices: map[wire.Device]*device{}, clients: map[string]*device{}, secrets: map[[sha256.Size]byte]*device{},
		commands: map[string]*command{}, rollouts: map[string]rollout.State{}, claims: map[string]*claim{},
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketDevice, bucketCommand, bucketRollout, bucketMeta, bucketClaim} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return h.state.load(tx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *state) load(tx *bbolt.Tx) error {
	s.graph = string(tx.Bucket(bucketMeta).Get(keyGraph))
	return errors.Join(
		each(tx, bucketDevice, func(r record) { s.add(&device{record: r}) }),
		each(tx, bucketCommand, func(c api.Command) { s.commands[c.ID] = newCommand(c) }),
		each(tx, bucketRollout, func(r rollout.State) { s.rollouts[r.ID] = r }),
		each(tx, bucketClaim, func(c claim) { s.claims[c.ID] = &c }),
	)
}

func each[T any](tx *bbolt.Tx, bucket []byte, use func(T)) error {
	return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
		var t T
		if err := json.Unmarshal(v, &t); err != nil {
			return fmt.Errorf("%s %s: %w", bucket, k, err)
		}
		use(t)
		return nil
	})
}

func (s *state) add(d *device) {
	s.devices[d.id()] = d
	s.clients[d.id().ClientID()] = d
	s.secrets[d.key()] = d
}

func (s *state) remove(d *device) {
	delete(s.devices, d.id())
	delete(s.clients, d.id().ClientID())
	delete(s.secrets, d.key())
}

// change is a transaction on hub.db. What it says of a device is true, in
// memory too, once it is committed.
type change struct {
	puts    []put
	records map[*device]*record
}

type put struct {
	bucket, key []byte
	value       any // nil deletes
}

func (c *change) put(bucket []byte, key string, value any) {
	c.puts = append(c.puts, put{bucket, []byte(key), value})
}

// of returns the record of d as it will be, to be changed.
func (c *change) of(d *device) *record {
	if c.records == nil {
		c.records = map[*device]*record{}
	}
	r := c.records[d]
	if r == nil {
		now := d.record
		r = &now
		c.records[d] = r
	}
	return r
}

// commit stores a change; h.mu is held.
func (h *Hub) commit(c *change) error {
	for _, r := range c.records {
		c.put(bucketDevice, r.id().String(), r)
	}
	if len(c.puts) == 0 {
		return nil
	}
	if err := h.db.Update(c.store); err != nil {
		return fmt.Errorf("store the fleet's state: %w", err)
	}
	for d, r := range c.records {
		d.record, d.dirty = *r, false
	}
	return nil
}

func (c *change) store(tx *bbolt.Tx) error {
	for _, p := range c.puts {
		b := tx.Bucket(p.bucket)
		if p.value == nil {
			if err := b.Delete(p.key); err != nil {
				return err
			}
			continue
		}
		data, err := json.Marshal(p.value)
		if err != nil {
			return err
		}
		if err := b.Put(p.key, data); err != nil {
			return err
		}
	}
	return nil
}

// flush commits the records that devices changed by what they said; h.mu is
// held.
func (h *Hub) flush() error {
	var c change
	for _, d := range h.state.devices {
		if d.dirty {
			c.of(d)
		}
	}
	return h.commit(&c)
}
