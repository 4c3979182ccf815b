// Package source is where frames come from: a watched folder, what plays by
// itself (a camera, the output of a command, the lines of a sensor), and whoever
// hands bytes in (the local HTTP, a command from the hub). Start with Frame, New, Folder
// and Stream.
//
// Its promise: a picture in a watched folder leaves it only after its result
// was kept (Done or Reject), and has the same ID however often the agent was
// killed in between, so that its result can be kept once; of a stream the
// newest frame is handed out, and what was passed over is counted. It decodes
// no more than it takes to find where a frame ends, and runs nothing: the
// agent's pipeline does.
package source

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"time"

	"github.com/oklog/ulid/v2"
)

// Frame is one input on its way to an answer.
type Frame struct {
	ID     string // ULID
	Source string // as in wire.Result: "folder:7.png", "http", "mqtt:<command id>", "mjpeg:door"
	Input  string // "sha256:…" of Data
	Data   []byte // the file as it came

	// Taken is when the frame came; zero: when it is looked at.
	Taken time.Time
	// Looked, where it is not nil, is called when the answer is known and only
	// its keeping is left: the next frame may be looked at.
	Looked func()

	// Fresh is set where a file may still be written to: a picture that
	// cannot be read is then no reason to give up on it.
	Fresh bool
	// Tries counts how often the file was released before.
	Tries int
	// Alone is set where nobody waits for the answer: that an input cannot be
	// used is then a result too.
	Alone bool

	path string
	info fs.FileInfo // of the file as it was read
}

// New returns a frame of data that somebody handed in.
func New(from string, data []byte) Frame {
	return Frame{ID: ulid.Make().String(), Source: from, Input: digest(data), Data: data}
}

// Hashed returns the frame with its Input, which a stream leaves to whoever
// takes a frame: most of a camera's are never taken.
func (f Frame) Hashed() Frame {
	f.Input = digest(f.Data)
	return f
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// fileID returns the ID of a file's frame: the time of its last change, and
// as entropy a hash of what tells one drop into the folder from another. The
// inode is part of it, so that a copy with the same name, time and content is
// another frame.
func fileID(name, input string, size int64, mtime time.Time, inode uint64) string {
	h := sha256.New()
	h.Write([]byte(name + "\x00" + input + "\x00"))
	var n [24]byte
	binary.LittleEndian.PutUint64(n[0:], uint64(size))
	binary.LittleEndian.PutUint64(n[8:], uint64(mtime.UnixNano()))
	binary.LittleEndian.PutUint64(n[16:], inode)
	h.Write(n[:])
	var id ulid.ULID
	ms := min(max(mtime.UnixMilli(), 0), int64(ulid.MaxTime()))
	if err := id.SetTime(uint64(ms)); err != nil {
		return "" // only a time beyond MaxTime fails, and it was bounded
	}
	if err := id.SetEntropy(h.Sum(nil)[:10]); err != nil {
		return "" // only another length than 10 fails
	}
	return id.String()
}

// takenAt tells whether a file that was last changed at mtime can have that ID.
func takenAt(id string, mtime time.Time) bool {
	const digits = 10 // of the time, in a ULID
	return len(id) > digits && id[:digits] == fileID("", "", 0, mtime, 0)[:digits]
}
