package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets a test start this binary as something that plays a shell
// script, in order to kill it.
func TestMain(m *testing.M) {
	if script := os.Getenv("DUNLIN_TEST_PLAY"); script != "" {
		_ = shell(script).Play(context.Background(), func([]byte) {})
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func shell(script string, args ...string) Command {
	return Command{Args: append([]string{"/bin/sh", "-c", script, "sh"}, args...), MaxBytes: 1 << 20}
}

// file writes a file and returns its path.
func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pidIn waits for a script to write a process's number to a file.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	wait(t, "the number of a process", func() bool {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

// gone reports whether a process is no more, or only waits to be reaped.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z")
}

// A program's pictures are frames; how it ended and what it said last is the
// error.
func TestCommandPictures(t *testing.T) {
	a, b := shot(t, 1), pngShot(t, 2)
	c := shell(`cat "$1" "$2" "$1"; echo first >&2; printf 'frame 1\rframe 2\r' >&2; echo no camera >&2; exit 3`,
		file(t, "a", a), file(t, "b", b))
	got, err := playOne(t, c)
	if !slices.EqualFunc(got, [][]byte{a, b, a}, bytes.Equal) {
		t.Errorf("%d pictures", len(got))
	}
	if want := "sh: exit status 3; it said: frame 1 / frame 2 / no camera"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := playOne(t, shell("exit 0")); !errors.Is(err, errEnded) {
		t.Errorf("a program that ends well: %v", err)
	}
	if _, err := playOne(t, Command{Args: []string{"/no/such/program"}, MaxBytes: 1}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	if _, err := playOne(t, Command{Args: []string{"cat", "/dev/zero"}, MaxBytes: 4096}); !errors.Is(err, errNoImage) {
		t.Errorf("a program that writes no pictures: %v", err)
	}
	silent := shell("echo I wait >&2; sleep 1000")
	silent.Silence = time.Second // in which it is started, and says something
	if _, err := playOne(t, silent); err == nil || !strings.Contains(err.Error(), "nothing came for 1s; it said: I wait") {
		t.Errorf("a program that writes nothing: %v", err)
	}
}

// play starts a player and returns how to stop it; stop returns when it ended.
func play(t *testing.T, p Player) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Play(ctx, func([]byte) {}) }()
	return func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("stopped: %v", err)
			}
		case <-time.After(60 * time.Second):
			t.Fatal("it did not stop")
		}
	}
}

// With the agent the program ends, and what it started, whether they do as
// they are told or not.
func TestCommandIsStopped(t *testing.T) {
	for _, x := range []struct{ name, script string }{
		{"it ends when told", `sleep 1000 & echo $! > "$1"; wait`},
		{"it does not", `trap "" TERM; sleep 1000 & echo $! > "$1"; wait; while :; do sleep 1000; done`},
	} {
		pidFile := filepath.Join(t.TempDir(), "pid")
		stop := play(t, shell(x.script, pidFile))
		pid := pidIn(t, pidFile)
		if gone(pid) {
			t.Fatalf("%s: the child is not there", x.name)
		}
		stop()
		wait(t, x.name+": the end of the child", func() bool { return gone(pid) })
	}
}

// What outlives a program in its group ends too; a process that left the
// group and holds the output does not hold up the agent.
func TestCommandLeavesNothing(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	if _, err := playOne(t, shell(`sleep 1000 >/dev/null 2>&1 & echo $! > "$1"; exit 4`, pidFile)); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Error(err)
	}
	wait(t, "the end of the child", func() bool { return gone(pidIn(t, pidFile)) })

	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Fatal(err)
	}
	pidFile = filepath.Join(t.TempDir(), "pid")
	stop := play(t, shell(`"$2" sh -c 'echo $$ > "$1"; exec sleep 1000' sh "$1" & wait`, pidFile, setsid))
	pid := pidIn(t, pidFile)
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	stop()
}

// A program does not outlive an agent that is killed.
func TestCommandOfAKilledAgent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: only Linux tells a child of its parent's death")
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	agent := exec.Command(os.Args[0])
	agent.Env = append(os.Environ(), `DUNLIN_TEST_PLAY=echo $$ > "`+pidFile+`"; exec sleep 1000`)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, pidFile)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	wait(t, "the end of the program", func() bool { return gone(pid) })
}

// counted returns n samples, 0, 1, 2 and so on, as they come from a microphone.
func counted(n int) []byte {
	b := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(b[2*i:], uint16(i))
	}
	return b
}

// Windows of sound, with and without overlap, begin where they should.
func TestCommandSound(t *testing.T) {
	raw := counted(1000)
	junk := []byte("JUNK\x03\x00\x00\x00abc\x00") // of odd length, so that a byte follows
	endless := slices.Concat(waveHeader(1000, 1, 0)[:12], junk, waveHeader(1000, 1, 0)[12:], raw)
	for _, x := range []struct {
		name  string
		in    []byte
		w     Windows
		first []int // sample of each window
		bytes int
	}{
		{"one after the other", raw, Windows{Rate: 1000, Channels: 1, Millis: 300}, []int{0, 300, 600}, 600},
		{"overlapping", raw, Windows{Rate: 1000, Channels: 1, Millis: 400, Hop: 200}, []int{0, 200, 400, 600}, 800},
		{"apart", raw, Windows{Rate: 1000, Channels: 1, Millis: 100, Hop: 450}, []int{0, 450, 900}, 200},
		{"two channels", raw, Windows{Rate: 1000, Channels: 2, Millis: 100, Hop: 200}, []int{0, 400, 800}, 400},
		{"a WAV without an end", endless, Windows{WAV: true, Millis: 500}, []int{0, 500}, 1000},
	} {
		c := Command{Args: []string{"cat", file(t, "sound", x.in)}, Sound: &x.w}
		got, err := playOne(t, c)
		if !errors.Is(err, errEnded) || len(got) != len(x.first) {
			t.Errorf("%s: %d windows, want %d: %v", x.name, len(got), len(x.first), err)
			continue
		}
		for i, g := range got {
			if want := raw[2*x.first[i]:][:x.bytes]; !bytes.Equal(g[44:], want) || string(g[:4]) != "RIFF" || string(g[36:40]) != "data" {
				t.Errorf("%s: window %d is not that of sample %d", x.name, i, x.first[i])
			}
		}
	}
	for want, in := range map[string][]byte{
		"no RIFF WAVE header":               bytes.Repeat([]byte{1}, 100),
		"24 bits, 1 channels":               slices.Concat(waveHeader(1000, 1, 0)[:34], []byte{24, 0}, waveHeader(1000, 1, 0)[36:]),
		"samples before their format":       slices.Concat(waveHeader(1000, 1, 0)[:12], waveHeader(1000, 1, 0)[36:]),
		"100 ms at 5 samples a second are ": waveHeader(5, 1, 0),
	} {
		c := Command{Args: []string{"cat", file(t, "sound", in)}, Sound: &Windows{WAV: true, Millis: 100}}
		if _, err := playOne(t, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
