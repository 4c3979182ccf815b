package recipe

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed examples
var examples embed.FS

// Examples are the names that Example knows.
func Examples() []string { return []string{"mlp", "garments", "teacher", "student", "int8"} }

// Example returns the text of a recipe to start from.
func Example(name string) ([]byte, error) {
	if !slices.Contains(Examples(), name) {
		return nil, fmt.Errorf("there is no example %q: want one of %s", name, strings.Join(Examples(), ", "))
	}
	return examples.ReadFile("examples/" + name + ".toml")
}
