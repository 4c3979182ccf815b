package source

import (
	"context"
	"time"
)

// Polled plays what can be had whenever one asks: the readings of sensors.
type Polled struct {
	Every time.Duration   // from one frame to the next; 0: 1 s, or only where Asked says
	Pace  *Pace           // makes that longer
	Asked <-chan struct{} // a frame is wanted now; nil: every so often alone
	Get   func(ctx context.Context) ([]byte, error)
}

// Play implements Player.
func (p Polled) Play(ctx context.Context, got func([]byte)) error {
	return paced(ctx, beat{p.Every, p.Pace, p.Asked}, got, p.Get)
}

// beat is when frames are got that can be had whenever one asks.
type beat struct {
	every time.Duration   // apart; 0: only when asked
	pace  *Pace           // makes that longer
	asked <-chan struct{} // one is wanted now
}

// paced gets a frame every so often and when asked, until one cannot be had.
// What is only asked for is not got before.
func paced(ctx context.Context, b beat, got func([]byte), get func(context.Context) ([]byte, error)) error {
	if b.every == 0 && b.asked == nil {
		b.every = time.Second
	}
	for now := b.every > 0; ; now = true {
		last := time.Now()
		if now {
			data, err := get(ctx)
			if err != nil {
				return err
			}
			got(data)
		}
		if err := b.pause(ctx, last); err != nil {
			return err
		}
	}
}

// pause waits until the frame after that of last is due, or one is asked for.
func (b beat) pause(ctx context.Context, last time.Time) error {
	for {
		var due <-chan time.Time
		factor, changed := b.pace.Factor()
		if b.every > 0 {
			wait := b.every*time.Duration(factor) - time.Since(last)
			if wait <= 0 {
				return ctx.Err()
			}
			due = time.After(wait)
		}
		select {
		case <-due:
			return ctx.Err()
		case <-b.asked:
			return ctx.Err()
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
