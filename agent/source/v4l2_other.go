//go:build !linux

package source

import (
	"context"
	"errors"
	"time"
)

// V4L2 is Linux's, and plays nothing elsewhere.
type V4L2 struct {
	Device         string
	Width, Height  int
	MaxBytes       int
	Every, Silence time.Duration
	Pace           *Pace
}

// Play implements Player.
func (V4L2) Play(context.Context, func([]byte)) error {
	return errors.New("V4L2 is for Linux alone")
}
