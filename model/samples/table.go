package samples

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxLine bounds a row of a table, in bytes.
const maxLine = 1 << 16

// table is rows of numbers in a CSV file with a heading. It keeps where each
// row begins, not the rows.
type table struct {
	file    string
	columns []string
	class   int // its column, -1: unlabelled
	starts  []int64
}

// openTable reads the heading of a table, and where its rows begin. Quoted
// cells that hold a line end are not numbers, and not read.
func openTable(file string) (source, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &table{file: file, class: Unlabelled}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	lines.Split(wholeLines)
	at := int64(0)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		switch {
		case text == "":
		case t.columns == nil:
			if err := t.heading(strings.TrimPrefix(text, "\ufeff")); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		default:
			t.starts = append(t.starts, at)
		}
		at += int64(len(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: row %d: %w", file, len(t.starts)+1, err)
	}
	return t, nil
}

// wholeLines is bufio.ScanLines that keeps the line's end, so that lengths add
// up to positions.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := slices.Index(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func (t *table) heading(line string) error {
	cells, err := cells(line)
	if err != nil {
		return err
	}
	for i, name := range cells {
		if _, err := strconv.ParseFloat(name, 64); err == nil {
			return fmt.Errorf("column %d is called %q: want a heading with the names of the columns", i+1, name)
		}
		if slices.Contains(cells[:i], name) {
			return fmt.Errorf("column %q stands twice", name)
		}
	}
	t.columns, t.class = cells, slices.Index(cells, "class")
	return nil
}

func cells(line string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(line))
	r.TrimLeadingSpace = true
	row, err := r.Read()
	for i := range row {
		row[i] = strings.TrimSpace(row[i])
	}
	return row, err
}

func (t *table) count() int     { return len(t.starts) }
func (t *table) labelled() bool { return t.class >= 0 }

func (t *table) at(i int) (Sample, error) {
	f, err := os.Open(t.file)
	if err != nil {
		return Sample{}, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.NewSectionReader(f, t.starts[i], maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return Sample{}, err
	}
	s := Sample{Name: fmt.Sprintf("%s#%d", filepath.Base(t.file), i), Class: Unlabelled}
	if s.Line, s.Class, err = t.row(strings.TrimSpace(line)); err != nil {
		return Sample{}, fmt.Errorf("%s: %w", s.Name, err)
	}
	return s, nil
}

// row returns a row as prep.Input.Numbers takes it. Cells that are no numbers
// are left out: where a field needs one, prep says so.
func (t *table) row(line string) ([]byte, int, error) {
	row, err := cells(line)
	if err == nil && len(row) != len(t.columns) {
		err = fmt.Errorf("%d cells for %d columns", len(row), len(t.columns))
	}
	if err != nil {
		return nil, 0, err
	}
	class, numbers := Unlabelled, map[string]json.RawMessage{}
	for c, cell := range row {
		if c == t.class {
			if class, err = strconv.Atoi(cell); err != nil || class < 0 {
				return nil, 0, fmt.Errorf("class %q: want a number from 0 on", cell)
			}
			continue
		}
		if v, err := strconv.ParseFloat(cell, 64); err == nil && v-v == 0 {
			numbers[t.columns[c]] = json.RawMessage(strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	text, err := json.Marshal(numbers)
	return text, class, err
}
