package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// parts reads the body of a multipart/x-mixed-replace answer as cameras send
// it, which mime/multipart refuses: the boundary of the header may begin with
// the dashes that belong to the body or lack them, a part may tell its length
// or not, lines may end in LF alone.
type parts struct {
	r        *bufio.Reader
	boundary string // without dashes at its ends
	max      int    // bytes of a part
	begun    bool   // the delimiter before the next part was read
}

// Bounds of what stands around the pictures.
const (
	maxPartHead  = 4 << 10
	maxPartLines = 32
)

var errPartTooLarge = errors.New("picture is too large")

func newParts(r io.Reader, boundary string, most int) *parts {
	return &parts{r: bufio.NewReaderSize(r, 64<<10), boundary: strings.Trim(boundary, "- "), max: most}
}

// delimits reports whether a line stands between two parts.
func (p *parts) delimits(line []byte) bool {
	return bytes.HasPrefix(line, []byte("--")) && string(bytes.Trim(line, "- \r\n")) == p.boundary
}

// next returns the content of the next part, in memory of its own. What stands
// before its delimiter is skipped, up to the size of a part.
func (p *parts) next() ([]byte, error) {
	start := true // of a line
	for skipped := 0; !p.begun; {
		line, err := p.r.ReadSlice('\n')
		whole := err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if start && whole && p.delimits(line) {
			break
		}
		start = whole
		if skipped += len(line); skipped > p.max {
			return nil, fmt.Errorf("no boundary %q in %d bytes", p.boundary, skipped)
		}
	}
	p.begun = false
	length, err := p.head()
	if err != nil {
		return nil, err
	}
	if length > 0 {
		if length > p.max {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", errPartTooLarge, length, p.max)
		}
		data := make([]byte, length)
		_, err := io.ReadFull(p.r, data)
		return data, err
	}
	return p.rest()
}

// head reads the header of a part and returns the length that it tells, 0
// where it tells none.
func (p *parts) head() (length int, err error) {
	size := 0
	for range maxPartLines {
		line, err := p.r.ReadSlice('\n')
		if size += len(line); size > maxPartHead || errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		if err != nil {
			return 0, err
		}
		text := strings.TrimSpace(string(line))
		if text == "" {
			return length, nil
		}
		name, value, _ := strings.Cut(text, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "Content-Length") {
			continue
		}
		if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || length < 0 {
			return 0, fmt.Errorf("length of a part: %.40q", value)
		}
	}
	return 0, errors.New("the header of a part does not end")
}

// rest reads a part that does not tell its length, and the delimiter behind it.
func (p *parts) rest() ([]byte, error) {
	var data []byte
	for start := true; ; {
		line, err := p.r.ReadSlice('\n')
		if start && p.delimits(line) && !errors.Is(err, bufio.ErrBufferFull) {
			p.begun = true
			return bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")), nil
		}
		if len(data)+len(line) > p.max {
			return nil, fmt.Errorf("%w: more than %d bytes", errPartTooLarge, p.max)
		}
		data = append(data, line...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		start = err == nil
	}
}
