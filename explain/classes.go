package explain

import (
	"fmt"
	"strconv"
	"strings"
)

// FindClass returns the class that text names: a label, or else an index. Of
// several classes with that label it is the first. labels may be nil; n is how
// many classes there are. It fails with ErrClass, and names labels that begin
// alike.
func FindClass(text string, labels []string, n int) (int, error) {
	var near []string
	for i, l := range labels {
		if i >= n {
			break
		}
		if strings.EqualFold(l, text) {
			return i, nil
		}
		if len(near) < 5 && text != "" && strings.Contains(strings.ToLower(l), strings.ToLower(text)) {
			near = append(near, fmt.Sprintf("%q (%d)", l, i))
		}
	}
	if i, err := strconv.Atoi(text); err == nil && i >= 0 && i < n {
		return i, nil
	}
	hint := fmt.Sprintf("want a label or a number from 0 to %d", n-1)
	if len(near) > 0 {
		hint = "there are " + strings.Join(near, ", ")
	}
	return 0, fmt.Errorf("class %.80q: %w: %s", text, ErrClass, hint)
}

// ClassName names class i.
func ClassName(i int, labels []string) string {
	if i < len(labels) {
		return labels[i]
	}
	return fmt.Sprintf("class %d", i)
}
