// Package garments carries the files of the demo, so that one binary shows
// the whole road: the network, its preprocessing, pictures and facts. Start
// with Files and WriteTo. README.md says what each file is and how it was
// made. It holds no code beyond that.
package garments

import (
	"embed"
	"os"
)

// Files are the example's files, as they lie in this folder.
//
//go:embed LICENSE.md README.md calibration drop samples entities.csv garments.nt garments.onnx labels.txt prep.toml
var Files embed.FS

// WriteTo copies every file to dir, which may exist but may not hold one of
// them already.
func WriteTo(dir string) error { return os.CopyFS(dir, Files) }
