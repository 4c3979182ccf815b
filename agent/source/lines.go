package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Lines plays the lines of text that come from a serial port, a FIFO or a file
// that grows: a sensor's numbers, each line a frame. Empty lines and those that
// begin with # are left out.
//
// What is no regular file is read as it comes; a serial port's first line is
// left out too, for it may have begun before the port was opened. A regular
// file is read from its end on.
type Lines struct {
	Path    string        // "/dev/ttyUSB0", a FIFO, a file; "/dev/stdin" for what is piped into the agent
	Baud    int           // of a serial port, which is then set to 8 bits, no parity, no echo; 0: it is left as it is
	Silence time.Duration // it is opened anew when no line came for so long; 0: never
}

// maxLine bounds a line, in bytes.
const maxLine = 64 << 10

// lookAgain is how often a file is looked at for what was added.
const lookAgain = 200 * time.Millisecond

// Play implements Player.
func (l Lines) Play(ctx context.Context, got func([]byte)) error {
	ctx, alive, stop := watchdog(ctx, l.Silence)
	defer stop()
	f, regular, err := l.open()
	if err != nil {
		return err
	}
	// Closing it is what ends a read that waits.
	closed := make(chan error, 1)
	stopClosing := context.AfterFunc(ctx, func() { closed <- f.Close() })
	defer func() {
		if stopClosing() {
			_ = f.Close() // it was only read
		} else {
			<-closed
		}
	}()
	var r io.Reader = f
	if regular {
		r = &growing{ctx: ctx, f: f}
	}
	err = l.read(bufio.NewReaderSize(r, maxLine), func(line []byte) {
		alive()
		got(line)
	})
	if ctx.Err() != nil {
		err = because(ctx, ctx.Err())
	}
	return fmt.Errorf("%s: %w", l.Path, ended(err))
}

// open opens the file and, where it is a serial port, sets it.
func (l Lines) open() (f *os.File, regular bool, err error) {
	// A FIFO without a writer, and a port without a carrier, must not block. A
	// FIFO that is open for writing too has no end when its writer goes.
	flags := os.O_RDONLY
	if info, err := os.Stat(l.Path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		flags = os.O_RDWR
	}
	if f, err = os.OpenFile(l.Path, flags|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0); err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", l.Path)
	}
	if err == nil && l.Baud > 0 {
		err = setSerial(f, l.Baud)
	}
	if regular = err == nil && info.Mode().IsRegular(); regular {
		_, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, regular, nil
}

// read hands out lines until there are no more.
func (l Lines) read(r *bufio.Reader, got func([]byte)) error {
	for skip := l.Baud > 0; ; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		if !skip && len(line) > 0 && line[0] != '#' {
			got(bytes.Clone(line))
		}
		skip = false
	}
}

// growing reads a file and, at its end, waits for more.
type growing struct {
	ctx context.Context
	f   *os.File
}

var errShorter = errors.New("it became shorter")

func (g *growing) Read(p []byte) (int, error) {
	for {
		n, err := g.f.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		at, err := g.f.Seek(0, io.SeekCurrent)
		if err != nil {
			return 0, err
		}
		if info, err := g.f.Stat(); err != nil || info.Size() < at {
			return 0, errors.Join(err, errShorter)
		}
		select {
		case <-time.After(lookAgain):
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		}
	}
}
