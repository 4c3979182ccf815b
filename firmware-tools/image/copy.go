package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"dunlin/internal/durable"
)

// Copy copies an image; what is empty in it stays a hole. It appears under its
// name when it is whole, and replaces no file.
func Copy(ctx context.Context, from, to string, progress func(done, total int64)) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return refuse("write to the card itself with --in-place", "%s is no file that could be copied", from)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return refuse("remove it, or choose another name with --output", "%s is there already", to)
	}
	tmp := durable.TempName(to)
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it will hold a claim
	if err != nil {
		return err
	}
	err = copySparse(ctx, out, in, info.Size(), progress)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(fmt.Errorf("copy %s: %w", from, err), os.Remove(tmp))
	}
	return durable.Rename(tmp, to)
}

func copySparse(ctx context.Context, out *os.File, in io.Reader, size int64, progress func(done, total int64)) error {
	buf, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], done); err != nil {
				return err
			}
		}
		done += int64(n)
		progress(done, size)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(out.Truncate(done), out.Sync())
		}
		if err != nil {
			return err
		}
	}
}
