package kernels

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"go/constant"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// encoding is a macro of neon_arm64.h: an instruction as a word computed from
// register numbers and other parameters.
type encoding struct {
	name       string
	parameters []string
	syntax     string // as Arm spells it, parameters in braces
	word       string // the expression
}

var macro = regexp.MustCompile(`^#define (\w+)\(([\w, ]+)\) WORD \$\(([^$;]*)\)$`)

// chained is a shift whose result is shifted or masked without parentheses: Go
// takes those from left to right, its assembler from right to left.
var chained = regexp.MustCompile(`(<<|>>)[^|()]*(<<|>>|&)`)

// encodings reads neon_arm64.h.
func encodings(t *testing.T) []encoding {
	t.Helper()
	text, err := os.ReadFile("neon_arm64.h")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseEncodings(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// parseEncodings returns all macros of a header. What it would not see, or
// could not compare, is an error: no word goes unchecked.
func parseEncodings(text string) (list []encoding, err error) {
	above := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "//") {
			m := macro.FindStringSubmatch(line)
			syntax, ok := strings.CutPrefix(above, "// ")
			if m == nil || !ok {
				return nil, fmt.Errorf("%q: not an instruction with its syntax in the line above", line)
			}
			if chained.MatchString(m[3]) {
				return nil, fmt.Errorf("%q: operators of one rank without parentheses", line)
			}
			list = append(list, encoding{m[1], strings.Split(m[2], ", "), syntax, m[3]})
		}
		above = line
	}
	return list, nil
}

// A macro that TestEncodings would pass over, or compare with nothing, is an
// error, however it is written.
func TestEncodingsSeeEveryMacro(t *testing.T) {
	const good = "// Moves.\n\n// mov v{d}.16b, v{n}.16b\n#define MOV_V(d, n) WORD $(0x4ea01c00 | (n)<<16 | (n)<<5 | (d))\n"
	list, err := parseEncodings(good + good)
	if err != nil || len(list) != 2 || list[1].name != "MOV_V" || list[1].syntax != "mov v{d}.16b, v{n}.16b" {
		t.Fatalf("%+v, %v", list, err)
	}
	for what, text := range map[string]string{
		"no syntax above":     "#define NOP_(d) WORD $(0xd503201f | (d))\n",
		"a line between":      "// mov v{d}.16b, v{n}.16b\n\n#define MOV_V(d, n) WORD $(0x4ea01c00 | (n)<<16 | (n)<<5 | (d))\n",
		"no parameters":       "// nop\n#define NOP_ WORD $0xd503201f\n",
		"two lines":           "// nop\n#define NOP_(d) \\\n\tWORD $(0xd503201f)\n",
		"two words":           "// nop\n#define NOP_(d) WORD $(0xd503201f); WORD $(0xd503201f)\n",
		"a space in #define":  "// nop\n# define NOP_(d) WORD $(0xd503201f | (d))\n",
		"no macro":            "// nop\nWORD $(0xd503201f)\n",
		"operators of a rank": "// mov v{d}.16b, v{n}.16b\n#define MOV_V(d, n) WORD $(0x4ea01c00 | (n)<<16<<5 | (d))\n",
		"another header":      "#include \"tile_arm64.h\"\n",
	} {
		if _, err := parseEncodings(good + text); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// sample returns values for the parameters: registers from one end of the
// range to the other, lanes and offsets from their first to their last.
func (e *encoding) sample(k int) map[string]int {
	s := map[string]int{}
	halves := strings.Contains(e.syntax, ".h[{i}]") // eight lanes, of the first sixteen registers
	for i, p := range e.parameters {
		switch {
		case p == "i" && halves:
			s[p] = k % 8
		case p == "m" && halves:
			s[p] = [...]int{0, 15, 10, 5, 7}[k%5]
		case p == "i":
			s[p] = k % 4
		case p == "o":
			s[p] = 16 * (k * k * 31 % 256)
		default:
			s[p] = [...]int{0, 31, 10, 21, 30, 7}[(i+k)%6]
		}
	}
	return s
}

// of returns the instruction as text and as the macro's word.
func (e *encoding) of(t *testing.T, values map[string]int) (string, uint32) {
	t.Helper()
	text, word := e.syntax, e.word
	for _, p := range e.parameters {
		number := fmt.Sprint(values[p])
		if p == "n" && strings.Contains(text, "[x{n}") && values[p] == 31 {
			text = strings.ReplaceAll(text, "x{n}", "sp")
		}
		if p == "m" && strings.Contains(text, "x{m}") && values[p] == 31 {
			text = strings.ReplaceAll(text, "x{m}", "xzr")
		}
		text = strings.ReplaceAll(text, "{"+p+"}", number)
		word = regexp.MustCompile(`\b`+p+`\b`).ReplaceAllString(word, number)
	}
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, word)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	n, exact := constant.Uint64Val(v.Value)
	if !exact || n>>32 != 0 {
		t.Fatalf("%s: %v is no word", e.name, v.Value)
	}
	return text, uint32(n)
}

// Each macro of neon_arm64.h is the instruction in the line above it, as GNU as
// sees it.
func TestEncodings(t *testing.T) {
	as, err := exec.LookPath("aarch64-linux-gnu-as")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the assembler for arm64 is absent (Debian: binutils-aarch64-linux-gnu): %v", err)
		}
		t.Skip("skipped: no aarch64-linux-gnu-as (Debian: binutils-aarch64-linux-gnu)")
	}
	var source bytes.Buffer
	var names []string
	var words []uint32
	for _, e := range encodings(t) {
		for k := range 12 {
			text, word := e.of(t, e.sample(k))
			fmt.Fprintln(&source, text)
			names, words = append(names, e.name+": "+text), append(words, word)
		}
	}
	object := filepath.Join(t.TempDir(), "encodings.o")
	assemble := exec.Command(as, "-march=armv8.6-a+fp16", "-o", object, "-")
	assemble.Stdin = &source
	if out, err := assemble.CombinedOutput(); err != nil {
		t.Fatalf("assemble: %v\n%s", err, out)
	}
	f, err := elf.Open(object)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	if len(code) != 4*len(words) || len(words) == 0 {
		t.Fatalf("%d bytes of code for %d instructions", len(code), len(words))
	}
	for i, word := range words {
		if want := binary.LittleEndian.Uint32(code[4*i:]); word != want {
			t.Errorf("%s is %08x, the macro says %08x", names[i], want, word)
		}
	}
}

// bare finds a word of code or of data in a line of assembly.
var bare = regexp.MustCompile(`\b(BYTE|D?WORD|LONG|QUAD)[ \t]+\$`)

// Loops name their instructions: words are in neon_arm64.h alone, not in
// another header either.
func TestNoBareWords(t *testing.T) {
	if !bare.MatchString("\tWORD\t$0x4ea01c00") || !bare.MatchString("#define A(d) DWORD $(1)") || bare.MatchString("\tMOVWU $1, R2 // WORD") {
		t.Error("it does not know a bare word")
	}
	files := 0
	for _, pattern := range []string{"*.s", "*.h"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_amd64.s") || name == "neon_arm64.h" {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files++
			if word := bare.Find(text); word != nil {
				t.Errorf("%s has a bare %s", name, word)
			}
		}
	}
	if files == 0 {
		t.Error("there is no assembly")
	}
}
