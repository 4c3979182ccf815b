//go:build !linux || (!amd64 && !arm64 && !arm)

package pool

import "sync/atomic"

// parker puts a worker to sleep as a plain goroutine.
type parker struct {
	state atomic.Uint32 // 1: asleep, or about to be
	woken chan struct{}
}

func (p *parker) init()        { p.woken = make(chan struct{}, 1) }
func (p *parker) setup()       {}
func (p *parker) prepare()     { p.state.Store(1) }
func (p *parker) cancel() bool { return p.state.CompareAndSwap(1, 0) }
func (p *parker) sleep()       { <-p.woken }

func (p *parker) wake() {
	if p.cancel() {
		p.woken <- struct{}{}
	}
}
