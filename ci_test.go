package dunlin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// makeList returns the words of a variable of the Makefile.
func makeList(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + name + ` := (.+)$`).FindSubmatch(text)
	if line == nil {
		t.Fatalf("Makefile: no %s", name)
	}
	return strings.Fields(string(line[1]))
}

// files parses the Go files of a package's folder, its tests included.
func files(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no Go files (%v)", dir, err)
	}
	all := map[string]*ast.File{}
	for _, path := range paths {
		if all[path], err = parser.ParseFile(token.NewFileSet(), path, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A package that make test-race leaves out starts no goroutine, by itself or
// in its tests, and has no state that would want a lock; where it has unsafe
// pointers, they are checked another way. What is skipped of the commands are
// tests of internal/cli, and of no other package that is not left out.
func TestRaceStep(t *testing.T) {
	serial, unsafe := makeList(t, "SERIAL"), makeList(t, "UNSAFE")
	threads := []string{"sync/atomic", "net/http", "net/http/httptest", "testing/synctest", "dunlin/internal/pool"}
	for _, pkg := range serial {
		for path, f := range files(t, pkg) {
			for _, i := range f.Imports {
				name := strings.Trim(i.Path.Value, `"`)
				if slices.Contains(threads, name) {
					t.Errorf("%s imports %s: take %s out of SERIAL", path, name, pkg)
				}
				if name == "unsafe" && !strings.HasSuffix(path, "_test.go") && !slices.Contains(unsafe, pkg) {
					t.Errorf("%s has unsafe pointers: add %s to UNSAFE", path, pkg)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if bad := threaded(n); bad != "" {
					t.Errorf("%s has %s: take %s out of SERIAL", path, bad, pkg)
				}
				return true
			})
		}
	}
	skipped := makeList(t, "TRAINED")
	found := map[string]bool{}
	for _, f := range testFunctions(t) {
		switch {
		case !slices.Contains(skipped, f.name), slices.Contains(serial, f.pkg):
		case f.pkg == "internal/cli":
			found[f.name] = true
		default:
			t.Errorf("%s.%s has the name of a test that the race step skips", f.pkg, f.name)
		}
	}
	for _, name := range skipped {
		if !found[name] {
			t.Errorf("TRAINED names %s, which internal/cli does not have", name)
		}
	}
}

// threaded says what a node has to do with several threads, if anything.
func threaded(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		if ok && x.Name == "sync" && !strings.HasPrefix(n.Sel.Name, "Once") {
			return "sync." + n.Sel.Name
		}
		if ok && x.Name == "t" && n.Sel.Name == "Parallel" {
			return "parallel tests"
		}
	}
	return ""
}

// testFunction is a test and the folder of its package.
type testFunction struct{ pkg, name string }

// testFunctions are the tests of the module.
func testFunctions(t *testing.T) (all []testFunction) {
	t.Helper()
	for pkg := range mayImport {
		paths, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test") {
					all = append(all, testFunction{pkg, d.Name.Name})
				}
			}
		}
	}
	return all
}
