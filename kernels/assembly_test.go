package kernels

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Above each function of arm64 stand its prototype and its reference; its file,
// or a header of that, has a register map.
func TestAssemblyIsDescribed(t *testing.T) {
	files, err := filepath.Glob("*_arm64.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("no assembly: %v", err)
	}
	text := regexp.MustCompile(`(?m)^TEXT ·(\w+)\(SB\)`)
	registers := regexp.MustCompile(`(?m)^//\t(R|V)\d+`)
	header := regexp.MustCompile(`#include "(\w+_arm64\.h)"`)
	functions := 0
	for _, name := range files {
		source := readFile(t, name)
		all := source
		for _, include := range header.FindAllStringSubmatch(source, -1) {
			all += readFile(t, include[1])
		}
		if !registers.MatchString(all) {
			t.Errorf("%s: no register map", name)
		}
		for _, at := range text.FindAllStringSubmatchIndex(source, -1) {
			functions++
			above := commentAbove(source[:at[0]])
			function := source[at[2]:at[3]]
			if !strings.Contains(above, "// func "+function+"(") {
				t.Errorf("%s: %s: no prototype", name, function)
			}
			if !strings.Contains(above, "// Reference: ") && !strings.HasPrefix(function, "peak") {
				t.Errorf("%s: %s: no reference", name, function)
			}
		}
	}
	if functions < 50 {
		t.Errorf("%d functions: the scan proves nothing", functions)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// commentAbove returns the lines of comment that source ends with.
func commentAbove(source string) string {
	lines := strings.Split(strings.TrimSuffix(source, "\n"), "\n")
	first := len(lines)
	for first > 0 && strings.HasPrefix(lines[first-1], "//") {
		first--
	}
	return strings.Join(lines[first:], "\n")
}
