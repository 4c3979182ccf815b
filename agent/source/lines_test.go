package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lineStream plays lines into a channel that holds many: a test of Lines is
// not one of what a stream drops.
func lineStream(t *testing.T, l Lines) <-chan string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	got, done := make(chan string, 100), make(chan error, 1)
	go func() { done <- l.Play(ctx, func(line []byte) { got <- string(line) }) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		case <-time.After(60 * time.Second):
			t.Error("it did not stop")
		}
	})
	return got
}

func wantLines(t *testing.T, got <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case g := <-got:
			if g != w {
				t.Fatalf("line %q, want %q", g, w)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("line %q did not come", w)
		}
	}
}

// A FIFO's writers come and go.
func TestLinesOfAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	got := lineStream(t, Lines{Path: path})
	for i := range 2 {
		w, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(w, "# a heading\n\n%d,1\r\n %d,2\nunfin", i, i); err != nil {
			t.Fatal(err)
		}
		wantLines(t, got, fmt.Sprintf("%d,1", i), fmt.Sprintf("%d,2", i))
		if _, err := w.WriteString("ished\n"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		wantLines(t, got, "unfinished")
	}
}

// A file is read from where it ended when it was opened, and one that is
// begun anew is opened anew.
func TestLinesOfAFile(t *testing.T) {
	path := file(t, "log.csv", []byte("old,1\n"))
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lines, opened := make(chan []byte, 10), make(chan error, 1)
	go func() { opened <- Lines{Path: path}.Play(t.Context(), func(line []byte) { lines <- line }) }()
	// When it was opened is not seen from here: numbers are added until one comes.
	var first string
	for i := 0; first == ""; i++ {
		if _, err := fmt.Fprintf(w, "new,%d\n", i); err != nil {
			t.Fatal(err)
		}
		select {
		case line := <-lines:
			first = string(line)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !strings.HasPrefix(first, "new,") {
		t.Errorf("the first line is %q", first)
	}
	if err := w.Truncate(0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-opened:
		if !errors.Is(err, errShorter) {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Error("that the file became shorter was not seen")
	}
}

func TestLinesErrors(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, l := range map[string]Lines{
		"no such file":          {Path: filepath.Join(dir, "none")},
		"is a folder":           {Path: dir},
		"nothing came for 50ms": {Path: fifo, Silence: 50 * time.Millisecond},
		"inappropriate ioctl":   {Path: file(t, "x", nil), Baud: 9600},
		"a line of more than":   {Path: "/dev/zero"},
		"it ended":              {Path: "/dev/null"},
	} {
		if _, err := playOne(t, l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("1,2\n\n# x\n3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := Lines{}
		_ = l.read(bufio.NewReaderSize(bytes.NewReader(data), maxLine), func(line []byte) {
			if len(line) == 0 || line[0] == '#' || bytes.ContainsRune(line, '\n') || !bytes.Contains(data, line) {
				t.Errorf("line %q", line)
			}
		})
	})
}
