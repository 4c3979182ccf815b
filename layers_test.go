package dunlin_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "dunlin/"

// mayImport is the architecture: a package of ours may import these of ours
// and no others. docs/ARCHITECTURE.md draws it. A new arrow is a line here,
// argued for in the same commit; an arrow between two rooms of one layer says
// why beside it.
var mayImport = map[string]string{
	// 0: no arrows, but for crash-safe files.
	"kernels":           "",
	"model":             "",
	"facts":             "",
	"boards":            "",
	"internal/durable":  "",
	"internal/chart":    "", // numbers in, a picture out
	"internal/guard":    "",
	"internal/freeport": "",
	"internal/shared":   "",
	"internal/qr":       "", // a line of text in, a picture out
	"internal/pool":     "", // threads, and nothing of what they compute
	"examples/garments": "",
	"internal/sign":     "internal/durable", // keys are files, written whole or not at all
	"internal/oci":      "internal/durable", // a blob becomes visible only when it is on disk
	"internal/release":  "internal/oci",     // the agent as an artefact: read by agent, registry and command alike

	// 1
	"engine":         "kernels model internal/pool",
	"model/onnx":     "model",
	"model/pack":     "model internal/oci internal/sign internal/durable",
	"model/prep":     "model",
	"model/tflite":   "model",
	"model/samples":  "model model/prep", // decodes with the same code as the device
	"boards/pins":    "",                 // knows periph.io, which nothing else does
	"boards/sensors": "",                 // chips on buses that are handed in, as periph.io's interfaces
	"facts/rdf":      "facts",
	"facts/cache":    "facts facts/rdf internal/durable",             // applies patches, which rdf reads
	"facts/graph":    "facts facts/rdf facts/cache internal/durable", // builds the file that a cache opens
	"firmware-tools": "",
	"sync":           "",
	"sync/wire":      "facts internal/sign",
	"sync/outbox":    "sync/wire internal/durable",              // its records are wire's
	"sync/fetch":     "sync/wire internal/oci internal/durable", // wire.FetchRules say how fast; one word for a full disk

	// 2
	"sync/link":       "sync/wire sync/outbox",
	"quant":           "kernels model engine",                                                          // kernels.WeightScale: a device that tunes a head rounds by the same rule
	"quant/certify":   "",                                                                              // counts in, a bound out
	"train":           "kernels model internal/durable",                                                // checkpoints are files, written whole or not at all
	"train/recipe":    "train quant engine model model/onnx model/prep model/samples internal/durable", // a training from files to files
	"explain":         "engine model model/prep",                                                       // not train: a device explains, and gradients are handed in
	"train/head":      "kernels model",                                                                 // the agent links it: no engine, no quant, no train
	"engine/lockstep": "engine kernels model",                                                          // engine's own steps side by side; apart, because no device compares

	// 3
	"agent/source": "",
	"agent/policy": "",                                                                                                               // readings in, a level out
	"agent/slots":  "model engine model/pack model/prep train/head internal/durable internal/oci internal/sign sync/wire sync/fetch", // train/head: a model with a head learned here
	"agent/probe":  "model facts sync/wire",
	"agent/update": "internal/durable internal/release sync/wire",
	"hub/broker":   "sync/wire",
	"hub/registry": "sync/wire model/pack internal/durable internal/oci internal/release internal/sign",
	"hub/rollout":  "sync/wire",
	"hub/results":  "sync/wire",
	"hub/api":      "model/pack sync/wire facts internal/chart internal/qr internal/oci internal/sign hub/registry hub/rollout hub/results", // internal/chart, internal/qr: the front of a model, and a claim, as pictures
	"hub/page":     "",

	// 4
	"agent": "agent/source agent/slots agent/probe agent/policy agent/update boards boards/pins boards/sensors engine explain model model/pack model/prep train/head facts facts/cache " +
		"internal/durable internal/oci internal/release internal/sign sync/wire sync/outbox sync/fetch sync/link firmware-tools/files",
	"hub": "hub/broker hub/registry hub/rollout hub/results hub/api hub/page model/pack facts facts/cache facts/graph facts/rdf " +
		"internal/durable internal/oci internal/release internal/sign sync/wire sync/link",

	// 5
	"cmd/dunlin-agent": "agent",
	"cmd/dunlin":       "internal/cli",
	"internal/figures": "model train", // steps beside torch's, in turn; all else it runs as programs
	"cmd/figures":      "internal/figures",
	"internal/cli": "hub hub/page examples/garments facts/cache engine engine/lockstep explain kernels model model/onnx model/pack model/prep model/samples model/tflite quant quant/certify " +
		"train train/recipe facts facts/rdf internal/chart internal/qr internal/oci internal/release internal/sign internal/durable sync/wire firmware-tools/deb firmware-tools/image firmware-tools/vm",

	// What puts dunlin onto boards. The programs that a virtual board runs are
	// built apart, and packed.
	"firmware-tools/files":         "", // the agent links it too: it installs itself where there is no package
	"firmware-tools/deb":           "firmware-tools/files",
	"firmware-tools/image":         "firmware-tools/deb sync/wire internal/durable", // the agent, its package and a claim are checked before they go onto a card
	"firmware-tools/vm":            "firmware-tools/vm/guest firmware-tools/files",  // the plan of its first program; the agent's unit
	"firmware-tools/vm/guest":      "",
	"firmware-tools/vm/guest/init": "firmware-tools/vm/guest",
	"firmware-tools/vm/relay":      "",
	"firmware-tools/vm/blocklog":   "", // bytes in, a card out
	"firmware-tools/vm/nosync":     "firmware-tools/vm/guest",
	"firmware-tools/vm/netem":      "firmware-tools/vm/guest",
}

// mayNotLink says what must stay out of a binary or a library, and why.
var mayNotLink = map[string]map[string]string{
	"cmd/dunlin-agent": {
		module + "hub":           "the device never carries the server",
		module + "train":         "training happens on the hub (train/head apart)",
		module + "quant":         "devices run packed models only",
		module + "model/onnx":    "devices run packed models only",
		module + "model/tflite":  "devices run packed models only",
		module + "model/samples": "devices are not evaluated against labelled data",
		module + "facts/graph":   "the device has facts/cache",
		module + "facts/extract": "text becomes facts on the hub",
		"testing":                "test code in a shipped binary",
		"html/template":          "2.5 MB more in an arm64 binary",
		"runtime/cgo":            "one static binary",
	},
	"cmd/dunlin": {
		"testing":       "test code in a shipped binary",
		"html/template": "3.5 MB more in the binary, and 2 MB more resident in every run",
		"runtime/cgo":   "one static binary",
	},
	"engine": {
		"net":      "inference touches no network",
		"log/slog": "a library returns errors; the agent logs them",
	},
	"kernels": {
		"net":      "inference touches no network",
		"log/slog": "a library returns errors; the agent logs them",
	},
}

// sourceFile is one Go file of ours that is not a test.
type sourceFile struct {
	path, pkg string
	ast       *ast.File
}

// sources parses every non-test Go file of the tree, for every platform at
// once. Reading the files here, rather than in a child process, is what makes
// go test run the tests again when one changes.
func sources(t *testing.T, mode parser.Mode) []sourceFile {
	t.Helper()
	var all []sourceFile
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "testdata" || d.Name() == "node_modules" || len(path) > 1 && strings.ContainsAny(d.Name()[:1], "._") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
		if err != nil {
			return err
		}
		all = append(all, sourceFile{path, filepath.ToSlash(filepath.Dir(path)), f})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayers(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range sources(t, parser.ImportsOnly) {
		seen[f.pkg] = true
		allowed, known := mayImport[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in mayImport: say on which layer it stands", f.path, f.pkg)
			continue
		}
		for _, i := range f.ast.Imports {
			to, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
			if ours && !slices.Contains(strings.Fields(allowed), to) {
				t.Errorf("%s imports %s: not in mayImport[%q]", f.path, to, f.pkg)
			}
		}
	}
	for pkg := range mayImport {
		if !seen[pkg] {
			t.Errorf("mayImport names %s, which does not exist", pkg)
		}
	}
}

func TestBinaries(t *testing.T) {
	sources(t, parser.ImportsOnly) // so that the result is not cached across a change
	for pkg, bad := range mayNotLink {
		for _, arch := range []string{"amd64", "arm64"} {
			cmd := exec.Command("go", "list", "-deps", "./"+pkg)
			cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", pkg, err)
			}
			for dep := range strings.FieldsSeq(string(out)) {
				if why, no := bad[dep]; no {
					t.Errorf("%s (%s) links %s: %s", pkg, arch, dep, why)
				}
			}
		}
	}
}

// TestPackageComments demands that each package says, in exactly one place,
// what it is for.
func TestPackageComments(t *testing.T) {
	comments := map[string]int{}
	for _, f := range sources(t, parser.ParseComments|parser.PackageClauseOnly) {
		comments[f.pkg] += 0
		if f.ast.Doc == nil {
			continue
		}
		comments[f.pkg]++
		text := f.ast.Doc.Text()
		want := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			want = "Command " + filepath.Base(f.pkg) + " "
		}
		if !strings.HasPrefix(text, want) || len(strings.Fields(text)) < 12 {
			t.Errorf("%s: the package comment must begin with %q and say what the package is for", f.path, want)
		}
	}
	for pkg, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want one", pkg, n)
		}
	}
}

// TestNothingLeft finds notes to ourselves: what is not done is an issue or a
// sentence in a document, not a comment that nobody reads.
func TestNothingLeft(t *testing.T) {
	left := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX|(not |un)` + `implemented)\b`)
	for _, f := range sources(t, parser.ParseComments) {
		for _, group := range f.ast.Comments {
			if w := left.FindString(group.Text()); w != "" {
				t.Errorf("%s: a comment says %q", f.path, w)
			}
		}
	}
}

// TestMains keeps the programs thin, so that a test can run all of a program
// in its own process.
func TestMains(t *testing.T) {
	for _, f := range sources(t, parser.ParseComments) {
		if f.ast.Name.Name != "main" {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 30 {
			t.Errorf("%s has %d lines, at most 30", f.path, n)
		}
	}
}
