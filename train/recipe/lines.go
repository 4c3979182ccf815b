package recipe

import (
	"fmt"
	"strings"
)

// fieldLine returns the line of a field in a TOML text that has been decoded
// already, or of the innermost thing around it that is there; 0 where nothing
// is. The TOML package tells no lines of what it has decoded. Elements of
// arrays count from 1, "network.layers[3].kernel"; without a number the first
// one that has such a field is meant.
func fieldLine(text, field string) int {
	best, length := 0, 0
	l := &liner{text: text, line: 1, tables: map[string]int{}}
	l.visit = func(path string, line int) {
		plain := path
		if !strings.Contains(field, "[") {
			plain = withoutNumbers(path)
		}
		n := len(plain)
		if n > length && strings.HasPrefix(field, plain) && (n == len(field) || strings.IndexByte(".[", field[n]) >= 0) {
			best, length = line, n
		}
	}
	l.document()
	return best
}

func withoutNumbers(path string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(path, "[") {
		if _, after, ok := strings.Cut(part, "]"); ok {
			part = after
		}
		b.WriteString(part)
	}
	return b.String()
}

// liner walks through the keys of a TOML text. Of a text that is not TOML it
// makes something or other, and ends.
type liner struct {
	text   string
	line   int
	prefix string         // of the table that the text is in
	tables map[string]int // how many of each [[table]] came
	visit  func(path string, line int)
	depth  int
}

// skip passes n bytes.
func (l *liner) skip(n int) string {
	n = min(n, len(l.text))
	s := l.text[:n]
	l.line += strings.Count(s, "\n")
	l.text = l.text[n:]
	return s
}

// until passes what comes before the first of any, and returns it.
func (l *liner) until(any string) string {
	if i := strings.IndexAny(l.text, any); i >= 0 {
		return l.skip(i)
	}
	return l.skip(len(l.text))
}

// space passes white space, comments and commas.
func (l *liner) space() {
	for l.text != "" {
		switch l.text[0] {
		case ' ', '\t', '\r', '\n', ',':
			l.skip(1)
		case '#':
			l.until("\n")
		default:
			return
		}
	}
}

func (l *liner) begins(prefix string) bool { return strings.HasPrefix(l.text, prefix) }

func (l *liner) document() {
	for l.space(); l.text != ""; l.space() {
		if !l.begins("[") {
			l.pair(l.prefix)
			continue
		}
		many, at := l.begins("[["), l.line
		name := strings.Trim(l.until("\n#"), "[] \t\r")
		l.prefix = name
		if many {
			l.tables[name]++
			l.prefix = fmt.Sprintf("%s[%d]", name, l.tables[name])
		}
		l.visit(l.prefix, at)
	}
}

// pair passes key = value.
func (l *liner) pair(prefix string) {
	at := l.line
	key := strings.Trim(l.until("=\n"), " \t\r\"'")
	if !l.begins("=") {
		return
	}
	l.skip(1)
	if prefix != "" {
		key = prefix + "." + key
	}
	l.visit(key, at)
	l.value(key)
}

// value passes a value.
func (l *liner) value(path string) {
	l.text = strings.TrimLeft(l.text, " \t")
	l.depth++
	defer func() { l.depth-- }()
	switch {
	case l.depth > 64:
		l.skip(len(l.text))
	case l.begins(`"""`), l.begins("'''"):
		l.quoted(l.text[:3])
	case l.begins(`"`), l.begins("'"):
		l.quoted(l.text[:1])
	case l.begins("{"):
		l.skip(1)
		for l.space(); l.text != "" && !l.begins("}"); l.space() {
			l.pair(path)
			if l.begins("\n") {
				break // no inline table of TOML 1.0
			}
		}
		l.skip(1)
	case l.begins("["):
		l.skip(1)
		n := 0
		for l.space(); l.text != "" && !l.begins("]"); l.space() {
			n++
			element := fmt.Sprintf("%s[%d]", path, n)
			l.visit(element, l.line)
			before := len(l.text)
			l.value(element)
			if len(l.text) == before {
				l.skip(1) // of a text that is not TOML
			}
		}
		l.skip(1)
	default:
		l.until(",]}\n#")
	}
}

// quoted passes a string.
func (l *liner) quoted(quote string) {
	l.skip(len(quote))
	for l.text != "" && !l.begins(quote) {
		if l.begins(`\`) && quote[0] == '"' {
			l.skip(1)
		}
		l.skip(1)
	}
	l.skip(len(quote))
}
