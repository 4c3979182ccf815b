//go:build !linux

package guard

import "testing"

// End returns n bytes.
func End(_ testing.TB, n int) []byte { return make([]byte, n) }

// Start returns n bytes.
func Start(_ testing.TB, n int) []byte { return make([]byte, n) }
