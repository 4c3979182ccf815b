// Command _gen writes the amd64 assembly of package kernels and the Go
// prototypes that go with it:
//
//	go generate ./kernels
//
// It is a module of its own, so that nobody who uses dunlin downloads avo. One
// function here describes a loop for all tiers (isa.go says how they differ)
// and all sizes of register tiles; what comes out is one function each.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	log.SetFlags(0)
	s := &stubs{}
	for _, f := range []struct {
		name string
		emit func(*file)
	}{
		{"tile_int8", tilesInt8},
		{"stage_int8", stages},
		{"depthwise_int8", depthwiseInt8},
		{"tile_f32", tilesF32},
		{"tile_f16", tilesF16},
		{"depthwise_f32", depthwiseF32},
		{"loops_int8", loopsInt8},
		{"smooth", smooth},
		{"norm_f32", normsF32},
		{"rows_f32", rowsF32},
		{"adam_f32", adamF32},
		{"strided_f32", stridedF32},
		{"transpose", transposes},
		{"peak", peaks},
	} {
		out := &file{Context: build.NewContext(), stubs: s, constants: map[string]operand.Mem{}, maps: map[string][]registers{}}
		out.ConstraintExpr("!purego")
		f.emit(out)
		if err := out.write(filepath.Join("..", f.name+"_amd64.s")); err != nil {
			log.Fatalf("%s: %v", f.name, err)
		}
	}
	if err := s.write(filepath.Join("..", "stubs_amd64.go")); err != nil {
		log.Fatal(err)
	}
}

// file is one .s file in the making.
type file struct {
	*build.Context
	stubs     *stubs
	constants map[string]operand.Mem
	maps      map[string][]registers // of functions, by name
	current   string

	prototypes []string // as avo knows them and as they are, in turn
}

// registers are what a register map says of some registers.
type registers struct {
	what string
	list []reg.Register
}

// args are the fields of an argument struct. The Go declaration is printed from
// them; assembly names them, and the compiler says where they are (go_asm.h).
type args struct {
	name, doc string
	fields    []field
}

type field struct{ name, kind, doc string }

// has reports whether there is such a field.
func (a *args) has(name string) bool {
	return slices.ContainsFunc(a.fields, func(f field) bool { return f.name == name })
}

// function is the assembly function being written.
type function struct {
	*file
	isa
	args *args
	base reg.Register // address of the arguments
}

// plainFunction begins a function whose parameters are not a struct.
func (f *file) plainFunction(name, parameters, doc string) {
	f.signed(name, "("+parameters+")", doc)
}

// signed begins a function of a signature, without "func".
func (f *file) signed(name, signature, doc string) {
	f.Function(name)
	f.current = name
	f.Attributes(attr.NOSPLIT)
	f.SignatureExpr("func" + signature)
	f.Comment(mapHere)
	fmt.Fprintf(&f.stubs.text, "\n// %s %s\nfunc %s%s\n", name, doc, name, signature)
}

// function begins a function of one argument, a pointer to a.
func (f *file) function(name string, s isa, a *args, doc string, comment ...string) *function {
	f.Function(name)
	f.current = name
	f.Attributes(attr.NOSPLIT)
	f.SignatureExpr("func(args *byte)")
	f.Comment(append(comment, mapHere)...)
	f.stubs.add(name, a, doc)
	f.prototypes = append(f.prototypes, name+"(args *byte)", name+"(args *"+a.name+")")
	fn := &function{file: f, isa: s, args: a}
	fn.base = f.Load(f.Param("args"), f.GP64())
	f.uses("args", fn.base)
	return fn
}

// field is the memory of an argument.
func (f *function) field(name string) operand.Mem {
	if !f.args.has(name) {
		panic(f.args.name + " has no field " + name)
	}
	return operand.Mem{Symbol: operand.Symbol{Name: f.args.name + "_" + name}, Base: f.base}
}

// value loads an argument of 8 bytes.
func (f *function) value(name string) reg.GPVirtual {
	r := f.GP64()
	f.MOVQ(f.field(name), r)
	f.uses(name, r)
	return r
}

// mapHere stands for the register map until registers are known.
const mapHere = "map"

// uses puts registers into the register map of the function.
func (f *file) uses(what string, list ...reg.Register) {
	f.maps[f.current] = append(f.maps[f.current], registers{what, list})
}

// usesVecs is uses for vectors.
func (f *file) usesVecs(what string, list ...reg.VecVirtual) {
	r := registers{what: what}
	for _, v := range list {
		r.list = append(r.list, v)
	}
	f.maps[f.current] = append(f.maps[f.current], r)
}

// describe writes the register maps, now that registers have names, and what
// CPUs the functions need.
func (f *file) describe(program *ir.File) {
	for _, fn := range program.Functions() {
		for _, node := range fn.Nodes {
			if c, ok := node.(*ir.Comment); ok && c.Lines[len(c.Lines)-1] == mapHere {
				c.Lines = append(c.Lines[:len(c.Lines)-1], f.mapOf(fn)...)
			}
		}
		if strings.HasSuffix(fn.Name, avxvnni.name) {
			fn.ISA = slices.DeleteFunc(fn.ISA, func(s string) bool { return strings.HasPrefix(s, "AVX512") })
			fn.ISA = append(fn.ISA, "AVX_VNNI")
		}
	}
}

// mapOf returns the lines of a register map.
func (f *file) mapOf(fn *ir.Function) []string {
	var lines []string
	seen := map[string]bool{}
	line := "\t"
	for _, r := range f.maps[fn.Name] {
		var names []string
		for _, v := range r.list {
			names = append(names, fn.Allocation.LookupRegisterDefault(v).Asm())
		}
		entry := span(names) + " " + r.what
		if seen[entry] {
			continue
		}
		seen[entry] = true
		if len(line)+len(entry) > 100 {
			lines, line = append(lines, strings.TrimRight(line, " ")), "\t"
		}
		line += entry + "   "
	}
	return append(lines, strings.TrimRight(line, " "))
}

// span writes names, those of neighbours as a range.
func span(names []string) string {
	number := func(s string) (string, int) {
		n, err := strconv.Atoi(s[1:])
		if err != nil {
			return "", 0
		}
		return s[:1], n
	}
	var parts []string
	for i := 0; i < len(names); {
		kind, first := number(names[i])
		j := i + 1
		for ; kind != "" && j < len(names); j++ {
			if k, n := number(names[j]); k != kind || n != first+j-i {
				break
			}
		}
		if j > i+2 {
			parts = append(parts, names[i]+"-"+names[j-1])
		} else {
			parts = append(parts, names[i:j]...)
		}
		i = j
	}
	return strings.Join(parts, " ")
}

// end leaves the function.
func (f *function) end() {
	f.VZEROUPPER()
	f.RET()
}

// write compiles the functions and writes them to path, with the dot products
// of the tiers without AVX-512 as bytes (see vex).
func (f *file) write(path string) error {
	program, err := f.Result()
	if err != nil {
		return err
	}
	if err := pass.Compile.Execute(program); err != nil {
		return err
	}
	f.describe(program)
	text, err := printer.NewGoAsm(printer.Config{Name: "kernels/_gen", Argv: nil, Pkg: "kernels"}).Print(program)
	if err != nil {
		return err
	}
	text = bytes.Replace(text, []byte(`// Code generated by command: . DO NOT EDIT.`), []byte(header), 1)
	text = bytes.Replace(text, []byte("#include \"textflag.h\""), []byte("#include \"go_asm.h\"\n#include \"textflag.h\""), 1)
	text = []byte(strings.NewReplacer(f.prototypes...).Replace(string(fieldLine.ReplaceAll(text, []byte("$1(")))))
	if !bytes.Contains(text, []byte("DO NOT EDIT")) {
		return fmt.Errorf("no header")
	}
	return os.WriteFile(path, vex(text), 0o644)
}

// fieldLine is a field of the arguments as avo prints it.
var fieldLine = regexp.MustCompile(`(\w+Args_\w+)\+0\(`)

const header = "// Code generated by kernels/_gen. DO NOT EDIT."

// stubs collects what stubs_amd64.go declares.
type stubs struct {
	structs []*args
	tables  bytes.Buffer
	text    bytes.Buffer
}

func (s *stubs) add(name string, a *args, doc string) {
	if !slices.Contains(s.structs, a) {
		s.structs = append(s.structs, a)
	}
	fmt.Fprintf(&s.text, "\n// %s %s\n//\n//go:noescape\nfunc %s(args *%s)\n", name, doc, name, a.name)
}

func (s *stubs) write(path string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n//go:build !purego\n\npackage kernels\n", header)
	for _, a := range s.structs {
		fmt.Fprintf(&b, "\n// %s %s\ntype %s struct {\n", a.name, a.doc, a.name)
		for _, f := range a.fields {
			fmt.Fprintf(&b, "\t%s %s // %s\n", f.name, f.kind, f.doc)
		}
		b.WriteString("}\n")
	}
	b.Write(s.tables.Bytes())
	b.Write(s.text.Bytes())
	text, err := format.Source(b.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
