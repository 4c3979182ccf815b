package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dunlin/facts/cache"
	"dunlin/internal/durable"
	"dunlin/sync/wire"
)

// Only a file that is none of bbolt's any more is moved aside.
func TestJournalTorn(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "journal.db")
	j, err := openJournal(path, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.put("desired", wire.Desired{Gen: 7}), j.close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"zeros": make([]byte, len(whole)), "text": []byte("no database at all"), "one page": whole[:4096],
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if j, err = openJournal(path, log); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if err := j.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path + ".bad"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := os.RemoveAll(path + ".bad"); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that has no room, here by a limit on the size of files, is not the
// journal's fault: it stays, and opens when there is room again. The limit is
// one of a whole process, so it is set in another: go test keeps a log of its
// own in this one.
func TestJournalOnAFullDisk(t *testing.T) {
	const inChild = "DUNLIN_TEST_FULL_DISK"
	if os.Getenv(inChild) == "" {
		child := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestJournalOnAFullDisk$")
		child.Env = append(os.Environ(), inChild+"=1")
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestJournalOnAFullDisk") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(t.TempDir(), "journal.db")
	j, err := openJournal(path, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.put("desired", wire.Desired{Gen: 7}), j.close()); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limited := before
	limited.Cur = 1
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limited); err != nil {
		t.Fatal(err)
	}
	j, err = openJournal(path, log)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Fatal(errors.Join(errors.New("it opened on a full disk"), j.close()))
	}
	if !durable.IsNoSpace(err) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path + ".bad"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was moved aside: %v", err)
	}
	var d wire.Desired
	if j, err = openJournal(path, log); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.get("desired", &d), j.close()); err != nil || d.Gen != 7 {
		t.Errorf("after that it says %+v, %v", d, err)
	}
}

// Facts that a full disk does not take are neither good nor bad.
func TestFactsOnAFullDisk(t *testing.T) {
	var refused *refusal
	err := new(factsTaker).applied(fmt.Errorf("patch: %w", syscall.EDQUOT))
	if errors.As(err, &refused) || !errors.Is(err, errNoSpace) {
		t.Errorf("a full disk: %v", err)
	}
	if err := new(factsTaker).applied(fmt.Errorf("patch: %w", syscall.EIO)); errors.As(err, &refused) || !errors.Is(err, syscall.EIO) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
	if err := new(factsTaker).applied(cache.ErrCorrupt); !errors.As(err, &refused) || refused.why != wire.ReasonBroken {
		t.Errorf("another error: %v", err)
	}
}
