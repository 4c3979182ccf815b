package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
)

// bar shows progress on a terminal; in a file or a pipe it prints nothing.
type bar struct{ b *progressbar.ProgressBar }

func newBar(w io.Writer, what string, total int) bar {
	f, ok := w.(*os.File)
	if ok {
		info, err := f.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !ok {
		return bar{progressbar.DefaultSilent(int64(total))}
	}
	return bar{progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100e6), progressbar.OptionClearOnFinish())}
}

// The bar's own errors (a closed terminal) do not stop the work.
func (b bar) add(n int)        { _ = b.b.Add(n) }
func (b bar) set(n, total int) { b.b.ChangeMax(total); _ = b.b.Set(n) }
func (b bar) done()            { _ = b.b.Finish() }
func (b bar) say(what string)  { b.b.Describe(what) }
func (b bar) clear()           { _ = b.b.Clear() }

// bytesText prints a size as people read it.
func bytesText(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
