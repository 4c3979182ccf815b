package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command plays what a program writes to its standard output: pictures
// (rpicam-vid, ffmpeg) or sound (arecord). It ends when the program does, and
// the program, with all that it started in its process group, ends with it.
type Command struct {
	Args     []string      // the program and its arguments; no shell is between
	MaxBytes int           // of a picture
	Silence  time.Duration // a program that writes nothing for so long is ended; 0: never
	Sound    *Windows      // how what it writes is sound; nil: JPEG and PNG pictures, one after the other
}

// grace is how long a program has to end by itself: after it was told to, or
// after it closed its output.
const grace = 2 * time.Second

// Play implements Player.
func (c Command) Play(parent context.Context, got func([]byte)) error {
	ctx, alive, stop := watchdog(parent, c.Silence)
	defer stop()
	var said tail
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Stderr, cmd.SysProcAttr, cmd.WaitDelay = &said, ownGroup(), grace
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	defer keepThread()()
	if err := cmd.Start(); err != nil {
		return err
	}
	quiet, exited := make(chan struct{}), make(chan struct{})
	var guard sync.WaitGroup
	guard.Go(func() {
		select {
		case <-ctx.Done():
			signalGroup(cmd, syscall.SIGTERM)
		case <-quiet:
		}
		select {
		case <-exited:
		case <-time.After(grace):
			signalGroup(cmd, syscall.SIGKILL)
			_ = out.Close() // somebody outside the group may hold the other end
		}
	})
	err = c.read(aliveReader{out, alive}, got)
	why := because(ctx, err)
	if errors.Is(err, errEnded) {
		close(quiet)
	} else {
		stop()
	}
	waitExit(cmd)
	close(exited)
	guard.Wait()
	// The program is not reaped yet, so the number of its group is still its
	// own. What it left behind goes too.
	signalGroup(cmd, syscall.SIGKILL)
	waitErr := cmd.Wait()
	if parent.Err() != nil {
		return parent.Err()
	}
	if errors.Is(why, errEnded) && waitErr != nil {
		why = waitErr
	}
	why = fmt.Errorf("%s: %w", filepath.Base(c.Args[0]), why)
	if text := said.lines(); text != "" {
		why = fmt.Errorf("%w; it said: %s", why, text)
	}
	return why
}

// read hands out the program's frames until its output ends.
func (c Command) read(r io.Reader, got func([]byte)) error {
	next := newSplitter(r, c.MaxBytes).next
	if c.Sound != nil {
		next = c.Sound.reader(r).next
	}
	for {
		data, err := next()
		if err != nil {
			return ended(err)
		}
		got(data)
	}
}

// tail keeps the end of what a program wrote.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const (
	keptTail  = 1 << 10
	keptLines = 3
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - keptTail; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// lines returns the last lines that say something, as one. A progress bar's
// carriage return ends a line too.
func (t *tail) lines() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []string
	for line := range bytes.FieldsFuncSeq(t.text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if line := strings.TrimSpace(strings.ToValidUTF8(string(line), "?")); line != "" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-keptLines):], " / ")
}

// signalGroup tells all processes of the program's group. One that is gone
// needs no telling.
func signalGroup(cmd *exec.Cmd, sig syscall.Signal) { _ = syscall.Kill(-cmd.Process.Pid, sig) }
