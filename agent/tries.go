package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dunlin/agent/source"
	"dunlin/internal/durable"
)

// tries remembers which inputs were being looked at when the process died, so
// that a picture that kills the agent is not taken up at each start. Each
// input that is looked at has a file, with a byte for each time; it goes when
// the look is over. Nothing is synced: a file outlives a killed process
// without that, and a power cut is no picture's fault.
type tries struct{ dir string }

// keptTries is how long an input that did not come back is remembered.
const keptTries = 30 * 24 * time.Hour

func openTries(dir string) (*tries, error) {
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("tries: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > keptTries {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("tries: %w", err)
			}
		}
	}
	return &tries{dir}, nil
}

// tryKey names an input that can come again after a restart, as a file of the
// folder and a command do; "" for others.
func tryKey(f source.Frame) string {
	name := ""
	switch {
	case f.Alone:
		name = f.ID
	case strings.HasPrefix(f.Source, commandSource):
		name = f.Source
	default:
		return ""
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// count returns how often the process died with an input.
func (t *tries) count(key string) int {
	if key == "" {
		return 0
	}
	info, err := os.Stat(filepath.Join(t.dir, key))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

// begin counts a try, until end.
func (t *tries) begin(key string) error {
	if key == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(t.dir, key), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte{'.'})
	return errors.Join(err, f.Close())
}

// end forgets an input: the process outlived it. A file that cannot be
// removed counts a try too many, which two more would have to follow.
func (t *tries) end(key string) {
	if key != "" {
		_ = os.Remove(filepath.Join(t.dir, key))
	}
}
