//go:build !purego

package kernels

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Functions of the tiers below AVX-512 hold nothing that only a CPU with
// AVX-512 runs, and those of each tier nothing that hostTiers does not ask
// for. The generator writes what each instruction needs above the function;
// where AVX-VNNI's dot products stand as bytes, no EVEX form is left.
func TestFunctionsNeedWhatTheirTierHas(t *testing.T) {
	// CMOV and MMX+, as avo calls the prefetches, are in every amd64.
	has := map[string]string{
		"AVX2":    " AVX AVX2 FMA3 F16C BMI2 CMOV MMX+ ",
		"AVXVNNI": " AVX AVX2 FMA3 F16C BMI2 CMOV MMX+ AVX_VNNI ",
		"AVX512":  " AVX AVX2 FMA3 F16C BMI2 CMOV MMX+ AVX512F AVX512BW AVX512DQ AVX512VL AVX512VNNI ",
	}
	files, err := filepath.Glob("*_amd64.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("no assembly: %v", err)
	}
	needs := regexp.MustCompile(`^// Requires: (.*)$`)
	text := regexp.MustCompile(`^TEXT ·\w*?_?(AVX2|AVXVNNI|AVX512)\(SB\)`)
	functions, dots := 0, 0
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var required []string
		tier := ""
		for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
			line := s.Text()
			if m := needs.FindStringSubmatch(line); m != nil {
				required = strings.Split(m[1], ", ")
			}
			if m := text.FindStringSubmatch(line); m != nil {
				tier = m[1]
				functions++
				for _, r := range required {
					if !strings.Contains(has[tier], " "+r+" ") {
						t.Errorf("%s: %s needs %s", name, line, r)
					}
				}
				required = nil
			}
			if strings.HasPrefix(strings.TrimSpace(line), "VPDPBUSD") && tier != "AVX512" {
				t.Errorf("%s: EVEX in tier %s: %s", name, tier, line)
			}
			if strings.HasSuffix(line, "(VEX)") {
				dots++
			}
		}
	}
	if functions < 50 || dots < 100 {
		t.Errorf("%d functions, %d dot products of AVX-VNNI: the scan proves nothing", functions, dots)
	}
}
