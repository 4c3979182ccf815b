package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dunlin/agent/source"
	"dunlin/sync/wire"
)

// Two picture formats of the tests: decoding one is counted and takes a while,
// decoding the other kills the process, as a lack of memory would.
const (
	slowPicture   = "SLOW PICTURE"
	deadlyPicture = "DEADLY PICTURE"
)

var decoding, mostDecoding atomic.Int64

func init() {
	shape := func(io.Reader) (image.Config, error) {
		return image.Config{ColorModel: color.GrayModel, Width: 8, Height: 8}, nil
	}
	image.RegisterFormat("slow", slowPicture, func(io.Reader) (image.Image, error) {
		n := decoding.Add(1)
		defer decoding.Add(-1)
		for most := mostDecoding.Load(); n > most && !mostDecoding.CompareAndSwap(most, n); most = mostDecoding.Load() {
		}
		for range 4 {
			pause()
		}
		return image.NewGray(image.Rect(0, 0, 8, 8)), nil
	}, shape)
	image.RegisterFormat("deadly", deadlyPicture, func(io.Reader) (image.Image, error) {
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		for err == nil {
			pause()
		}
		return nil, err
	}, shape)
}

// However many pictures wait, one is decoded at a time, and none that claims
// more pixels than the configuration allows.
func TestOnePictureInMemory(t *testing.T) {
	h := newTestHub(t)
	c, _ := h.config(t)
	c.MaxMegapixels = 1
	a, _ := run(t, c)
	h.want(h.offer(1, false), nil)
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if _, err := a.p.process(t.Context(), source.New("http", []byte(slowPicture)), nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most := mostDecoding.Load(); most != 1 {
		t.Errorf("%d pictures were decoded at once, want 1", most)
	}
	var wide bytes.Buffer
	if err := png.Encode(&wide, image.NewGray(image.Rect(0, 0, 1001, 1000))); err != nil {
		t.Fatal(err)
	}
	_, err := a.p.process(t.Context(), source.New("http", wide.Bytes()), nil)
	if !errors.Is(err, errInput) || !strings.Contains(err.Error(), "1001 x 1000") {
		t.Errorf("1.001 megapixels where 1 is allowed: %v", err)
	}
	m, err := a.slots.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	if held := m.Held(); held != 0 {
		t.Errorf("no inference is under way, and the turn was taken %v ago", held)
	}
}

// A file that kills the process is given up after three deaths; the ones
// beside it are not.
func TestDeadlyPicture(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: it kills processes")
	}
	h := newTestHub(t)
	c, path := h.config(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], "run", "-config", path)
		cmd.Env = append(os.Environ(), "DUNLIN_TEST_MAIN=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	h.want(h.offer(1, false), nil)
	agent := start()
	h.until("version 1", func() bool { return h.ended(1) == wire.StateActive })
	const beside = 6
	for i := range beside {
		drop(t, c, fmt.Sprintf("%d.png", i), picture(t, uint8(20*i), i))
	}
	drop(t, c, "deadly.png", []byte(deadlyPicture))
	for i := beside; i < 2*beside; i++ {
		drop(t, c, fmt.Sprintf("%d.png", i), picture(t, uint8(20*i), i))
	}
	for range 3 {
		if err := agent.Wait(); err == nil || agent.ProcessState.ExitCode() != -1 {
			t.Fatalf("it did not die of the picture: %v", err)
		}
		agent = start()
	}
	h.until("every result", func() bool { return len(h.results) == 2*beside+1 })
	if err := agent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("clean stop: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.results {
		if bad := r.Source == "folder:deadly.png"; bad != (r.Error != "") || bad && !strings.Contains(r.Error, "died 3 times") {
			t.Errorf("%s: %q", r.Source, r.Error)
		}
	}
	if _, err := os.Stat(filepath.Join(c.Folder.Dir, "rejected", "deadly.png")); err != nil {
		t.Error(err)
	}
}
