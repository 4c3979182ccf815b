//go:build !linux

package cli

import (
	"errors"
	"os"
)

// mapPart refuses: the constants stay in memory of the process.
func mapPart(*os.File, int64, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapPart([]byte) error { return nil }

func forgetPages([]byte) {}
