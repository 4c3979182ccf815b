package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"dunlin/agent/probe"
	"dunlin/agent/source"
	"dunlin/sync/outbox"
	"dunlin/sync/wire"
)

func (a *Agent) openFolder() (err error) {
	if a.c.Folder.Dir == "" {
		return nil
	}
	a.folder, err = source.OpenFolder(a.c.Folder.Dir, source.Options{
		Poll: ms(a.c.Folder.PollMS), MaxBytes: int64(a.c.Folder.MaxMB) << 20,
		Newest: a.c.Folder.Newest, Delete: a.c.Folder.Delete, Log: a.log,
		Stored: func(name string) (id string, bad bool) {
			r := a.kept.byFile[name]
			return r.ID, r.Error != ""
		},
	})
	return err
}

// workers is how many files are on their way at once. The inference is one at
// a time; what they share is the wait for the outbox's next sync.
const workers = 8

// watch has the files of the folder answered. It comes before the hub is asked
// for anything: see Folder.Resume.
func (a *Agent) watch(ctx context.Context, all *sync.WaitGroup) {
	if err := a.folder.Resume(); err != nil {
		a.log.Warn("watched folder cannot be read", "dir", a.c.Folder.Dir, keyError, err)
	}
	frames := make(chan source.Frame)
	all.Go(func() {
		if err := a.folder.Run(ctx, frames); err != nil {
			a.fail(err)
		}
		close(frames)
	})
	paced := make(chan source.Frame)
	all.Go(func() {
		defer close(paced)
		for f := range frames {
			a.paced(ctx, f, paced)
		}
	})
	for range workers {
		all.Go(func() {
			for f := range paced {
				a.file(ctx, f)
			}
		})
	}
}

// paced hands a file on. While the device holds itself back that is one at a
// time, with a rest after each: files wait in the folder, they are not lost.
func (a *Agent) paced(ctx context.Context, f source.Frame, out chan<- source.Frame) {
	if factor, _ := a.pace.Factor(); factor == 1 || !a.waitForModel(ctx) {
		out <- f
		return
	}
	looked := make(chan struct{})
	f.Looked = sync.OnceFunc(func() { close(looked) })
	start := time.Now()
	out <- f
	<-looked
	a.pace.Rest(ctx, time.Since(start))
}

// file has one file answered. The file waits here as long as there is no
// model, or nothing can be kept, and stays in the folder when the agent stops
// meanwhile.
func (a *Agent) file(ctx context.Context, f source.Frame) {
	if f.Looked != nil {
		defer f.Looked()
	}
	if !a.waitForModel(ctx) {
		a.folder.Wait(f)
		return
	}
	_, err := a.p.process(ctx, f, func(r wire.Result) {
		if r.Error != "" {
			a.folder.Reject(f, r.Error)
			return
		}
		a.folder.Done(f)
	})
	switch {
	case err == nil:
	case ctx.Err() != nil || errors.Is(err, probe.ErrNotReady):
		a.folder.Wait(f)
	default:
		a.folder.Release(f)
		a.giveUpOn(err)
	}
}

// waitForModel waits until a frame can be answered: there is a model, and what
// it says can be kept.
func (a *Agent) waitForModel(ctx context.Context) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for a.slots.Running() == nil || a.cardError() != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// giveUpOn stops the agent where its outbox has to be opened again, and can be.
func (a *Agent) giveUpOn(err error) {
	switch {
	case errors.Is(err, outbox.ErrBroken):
		a.reopen(err)
	case errors.Is(err, outbox.ErrNoSpace), errors.Is(err, outbox.ErrFull):
		a.log.Error("result cannot be kept", keyError, err)
	}
}
