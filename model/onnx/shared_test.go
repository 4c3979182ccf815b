package onnx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dunlin/internal/shared"
)

// files returns the ONNX files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".onnx") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRealModels imports every real model, and asks that each comes out in
// canonical form.
func TestRealModels(t *testing.T) {
	list := append(files(t, shared.Dir(t, "models", "onnx")), files(t, shared.Dir(t, "models", "onnx-light"))...)
	if len(list) < 34 {
		t.Fatalf("only %d models", len(list))
	}
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		g, err := Import(data)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
			continue
		}
		checkCanonical(t, g)
	}
}

// TestConformanceModels imports the models of ONNX's own suite. Those that
// are refused must be so for a reason that Error names, and be the ones
// expected: values that are no tensors of numbers.
func TestConformanceModels(t *testing.T) {
	list := files(t, shared.Dir(t, "conformance", "onnx-node"))
	if len(list) != 1072 {
		t.Errorf("%d models, want 1072", len(list))
	}
	refused := 0
	for _, path := range list {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path))
		g, err := Import(data)
		var typed *Error
		switch {
		case err == nil:
			checkCanonical(t, g)
		case errors.As(err, &typed) && errors.Is(err, ErrUnsupported):
			refused++
			t.Logf("%s: %v", name, err)
		default:
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d of %d refused", refused, len(list))
}
