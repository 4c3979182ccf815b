package qr_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/qr"
)

const text = "dunlin-claim:1.AAECAwQFBgcICQoLDA0ODwAAAAAAAAAAAAECAwQFBgcICQoLDA0ODwABAgMEBQYHCAkKCwwNDg8@https://hub.example:7070"

// decode reads a picture as a phone does: with zbar, which is no relative of
// the package that made it.
func decode(t *testing.T, picture []byte) string {
	t.Helper()
	zbar, err := exec.LookPath("zbarimg")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("zbarimg is missing: apt-get install zbar-tools")
		}
		t.Skip("zbarimg is missing: apt-get install zbar-tools")
	}
	file := filepath.Join(t.TempDir(), "code.png")
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(zbar, "--raw", "-q", file).Output()
	if err != nil {
		t.Fatalf("zbarimg: %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func TestPNG(t *testing.T) {
	for _, text := range []string{text, "http://10.0.0.1", strings.Repeat("dunlin ", 60)} {
		c, err := qr.New(text)
		if err != nil {
			t.Fatal(err)
		}
		data, err := c.PNG(6)
		if err != nil {
			t.Fatal(err)
		}
		if got := decode(t, data); got != text {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}

// TestTerminal paints what a terminal shows of the code, by its own colours
// nowhere, and has that picture read.
func TestTerminal(t *testing.T) {
	c, err := qr.New(text)
	if err != nil {
		t.Fatal(err)
	}
	if c.Size() > 80 {
		t.Errorf("%d columns: a terminal has 80", c.Size())
	}
	var b bytes.Buffer
	if err := c.Terminal(&b); err != nil {
		t.Fatal(err)
	}
	const cell = 4 // pixels: a cell is twice as high as wide
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	m := image.NewGray(image.Rect(0, 0, c.Size()*cell, len(lines)*2*cell))
	for row, line := range lines {
		inner, ok := strings.CutPrefix(line, "\x1b[38;5;16;48;5;231m")
		inner, ok2 := strings.CutSuffix(inner, "\x1b[0m")
		if !ok || !ok2 || len([]rune(inner)) != c.Size() {
			t.Fatalf("line %d: %q", row, line)
		}
		for col, r := range []rune(inner) {
			halves := map[rune][2]uint8{' ': {255, 255}, '█': {0, 0}, '▀': {0, 255}, '▄': {255, 0}}[r]
			for y := range 2 * cell {
				for x := range cell {
					m.SetGray(col*cell+x, row*2*cell+y, color.Gray{Y: halves[y/cell]})
				}
			}
		}
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, m); err != nil {
		t.Fatal(err)
	}
	if got := decode(t, picture.Bytes()); got != text {
		t.Errorf("read as %q", got)
	}
	if rows := c.Rows(); len(rows) != c.Size() || strings.Trim(rows[3], "0") != "" || strings.Trim(rows[4], "0") == "" {
		t.Errorf("the margin is not four modules: %q, %q", rows[3], rows[4])
	}
}

func TestTooLong(t *testing.T) {
	if _, err := qr.New(strings.Repeat("x", qr.MaxText+1)); err == nil {
		t.Error("it was drawn")
	}
}
