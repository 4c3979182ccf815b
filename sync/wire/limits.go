package wire

import (
	"errors"
	"fmt"
)

// Bounds of what goes over the wire, in bytes. A broker in its default state
// takes a megabyte.
const (
	MaxBody         = 56 << 10  // one record's Body: it fits a batch even where gzip gains nothing
	MaxBatch        = 64 << 10  // an UpResult message as we write it
	MaxBatchText    = 4 << 20   // the same, unpacked, as we accept it
	MaxBatchRecords = 1000      // records in it
	MaxCmd          = 768 << 10 // a Cmd's document: a picture in base64
	MaxToken        = 16 << 10  // an enrolment token
	MaxReadings     = 32        // of sensors, that a result carries

	maxBatchPacked = 1 << 20 // packed, as we accept it
	maxSigned      = 512     // what Signed adds to its document
)

// ErrTooLarge is wrapped by the error for a message beyond its bound.
var ErrTooLarge = errors.New("message too large")

// ErrMalformed is wrapped by the error for a message that is not what its
// topic says. Trying again does not help.
var ErrMalformed = errors.New("malformed message")

func tooLarge(what string, size, limit int) error {
	return fmt.Errorf("%s of %d bytes, at most %d: %w", what, size, limit, ErrTooLarge)
}

func malformed(what, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", what, fmt.Sprintf(format, args...), ErrMalformed)
}
