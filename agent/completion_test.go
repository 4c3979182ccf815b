package agent

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// What help says there is, the man page and the completions know.
func TestHelpAgrees(t *testing.T) {
	man, err := os.ReadFile("../firmware-tools/files/agent/dunlin-agent.1")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"man": strings.ReplaceAll(string(man), `\-`, "-"), "bash": completions["bash"], "zsh": completions["zsh"], "fish": completions["fish"]}
	about, _, _ := strings.Cut(usage, "\nexamples:")
	found := regexp.MustCompile(`(?m)^  (-?[a-z][a-z-]*) `).FindAllStringSubmatch(about, -1)
	if len(found) < 15 {
		t.Fatalf("help has %d commands and flags: %v", len(found), found)
	}
	for _, f := range found {
		for in, text := range texts {
			name := f[1]
			if flag, ok := strings.CutPrefix(name, "-"); ok && in == "fish" {
				name = "-o " + flag
			}
			if name != "help" && !regexp.MustCompile(regexp.QuoteMeta(name)+`\b`).MatchString(text) {
				t.Errorf("%s does not know %s", in, name)
			}
		}
	}
}
