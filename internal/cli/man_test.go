package cli

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestManAgrees: the man page has the commands that there are, and the
// variables that they read.
func TestManAgrees(t *testing.T) {
	man, err := os.ReadFile("../../firmware-tools/files/hub/dunlin.1")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)\n\.SH COMMANDS\n(.*?)\n\.SH `).FindSubmatch(man)
	if section == nil {
		t.Fatal("it has no section of commands")
	}
	var there, want []string
	for _, m := range regexp.MustCompile(`(?m)^\.B ([a-z]+)$`).FindAllSubmatch(section[1], -1) {
		there = append(there, string(m[1]))
	}
	for _, c := range newRoot().Commands() {
		want = append(want, c.Name())
	}
	slices.Sort(there)
	slices.Sort(want)
	if !slices.Equal(there, want) {
		t.Errorf("the man page has the commands %v, the program %v", there, want)
	}
	for _, name := range []string{"DUNLIN_HUB", "DUNLIN_TOKEN", "SSL_CERT_FILE"} {
		if !regexp.MustCompile(`(?m)^\.B .*\b` + name + `\b`).Match(man) {
			t.Errorf("the man page does not know %s", name)
		}
	}
}
