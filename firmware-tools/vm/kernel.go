package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Flavour is a kind of Debian's kernels: the package linux-image-<Name> of an
// architecture always needs the newest one.
type Flavour struct{ Name, Arch string }

// The flavours that the boards run on.
var (
	Cloud   = Flavour{"cloud-arm64", "arm64"} // 21 MB: virtio and little else
	Generic = Flavour{"arm64", "arm64"}       // 60 MB: also the Pi's parts, USB, cameras
	ARMHF   = Flavour{"armmp-lpae", "armhf"}  // 43 MB
)

// Kernel is an unpacked kernel package.
type Kernel struct {
	Dir     string // of the package's files
	Version string // "6.1.0-50-cloud-arm64"
}

// Image is the kernel's file.
func (k Kernel) Image() string { return filepath.Join(k.Dir, "boot", "vmlinuz-"+k.Version) }

// DTB is the file of a device tree; armhf has no folders for makers.
func (k Kernel) DTB(name string) (string, error) {
	dir := filepath.Join(k.Dir, "usr/lib/linux-image-"+k.Version)
	for _, sub := range []string{"", "broadcom"} {
		path := filepath.Join(dir, sub, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("kernel %s has no device tree %s", k.Version, name)
}

// ErrNoTool means that a program of the system is not installed.
var ErrNoTool = errors.New("is not installed")

// ToolError says which, and what brings it.
type ToolError struct{ Tool, Package string }

func (e *ToolError) Error() string { return e.Tool + " " + ErrNoTool.Error() }
func (e *ToolError) Unwrap() error { return ErrNoTool }

// Hint is the command that installs it.
func (e *ToolError) Hint() string { return "apt-get install " + e.Package }

func tool(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin"} { // not on everybody's path
			if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
		return "", &ToolError{Tool: name, Package: pkg}
	}
	return path, nil
}

// CacheDir is where kernels stay between runs: $DUNLIN_LINUX, or a folder of
// the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("DUNLIN_LINUX"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("folder for kernels: %w (or set DUNLIN_LINUX)", err)
	}
	return filepath.Join(dir, "dunlin", "kernels"), nil
}

// Fetch returns a kernel of the flavour: the one in dir, or else the newest
// that Debian's archive has, downloaded by apt-get. The machine's own package
// lists and architectures stay as they are: apt works in a folder of its own.
// It is not safe for two programs that fetch the same flavour at once to share
// dir; one of them then downloads in vain.
func (f Flavour) Fetch(ctx context.Context, dir string) (Kernel, error) {
	if k, ok := f.find(dir); ok {
		return k, nil
	}
	k, err := f.download(ctx, dir)
	if err != nil {
		return Kernel{}, &KernelError{Flavour: f, Dir: filepath.Join(dir, f.Arch), Err: err}
	}
	return k, nil
}

// KernelError is a kernel that is not in the cache and could not be fetched.
type KernelError struct {
	Flavour Flavour
	Dir     string // where it would be
	Err     error
}

func (e *KernelError) Error() string { return fmt.Sprintf("kernel %s: %v", e.Flavour.Name, e.Err) }
func (e *KernelError) Unwrap() error { return e.Err }

// Hint says how to do without apt-get.
func (e *KernelError) Hint() string {
	return fmt.Sprintf("boards run Debian's kernel, which apt-get fetches where its sources name Debian's archive; elsewhere unpack a linux-image-VERSION-%s (%s) yourself: dpkg-deb -x FILE.deb %s",
		e.Flavour.Name, e.Flavour.Arch, filepath.Join(e.Dir, "linux-image-VERSION-"+e.Flavour.Name))
}

// find looks for an unpacked kernel, the last by name.
func (f Flavour) find(dir string) (Kernel, bool) {
	found, _ := filepath.Glob(filepath.Join(dir, f.Arch, "linux-image-*"))
	for i := len(found) - 1; i >= 0; i-- {
		version := strings.TrimPrefix(filepath.Base(found[i]), "linux-image-")
		if rest, ok := strings.CutSuffix(version, "-"+f.Name); !ok || strings.HasSuffix(rest, "-cloud") || strings.HasSuffix(rest, "-rt") {
			continue
		}
		k := Kernel{Dir: found[i], Version: version}
		if _, err := os.Stat(k.Image()); err == nil {
			return k, true
		}
	}
	return Kernel{}, false
}

// aptConfig keeps apt away from the machine's own state. Its sources and keys
// are the machine's.
const aptConfig = `APT::Architecture %[2]q;
APT::Architectures { %[2]q; };
APT::Sandbox::User "";
Dir::State %[1]q;
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s/cache";
Dir::Log %[1]q;
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
`

func (f Flavour) download(ctx context.Context, dir string) (Kernel, error) {
	for _, name := range []string{"apt-get", "dpkg-deb"} {
		if _, err := tool(name, "apt dpkg"); err != nil {
			return Kernel{}, err
		}
	}
	dir = filepath.Join(dir, f.Arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Kernel{}, err
	}
	work, err := os.MkdirTemp(dir, ".fetch-*")
	if err != nil {
		return Kernel{}, err
	}
	defer os.RemoveAll(work)
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(work, sub), 0o755); err != nil {
			return Kernel{}, err
		}
	}
	conf := filepath.Join(work, "apt.conf")
	if err := errors.Join(os.WriteFile(conf, fmt.Appendf(nil, aptConfig, work, f.Arch), 0o644), os.WriteFile(filepath.Join(work, "status"), nil, 0o644)); err != nil {
		return Kernel{}, err
	}
	apt := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		var stderr bytes.Buffer
		cmd.Dir, cmd.Stderr, cmd.Env = work, &stderr, append(os.Environ(), "APT_CONFIG="+conf, "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, bytes.TrimSpace(stderr.Bytes()))
		}
		return out, err
	}
	// One source of several may be out of reach; whether that matters shows at the download.
	_, updateErr := apt("apt-get", "update", "-qq")
	out, err := apt("apt-cache", "depends", "linux-image-"+f.Name)
	if err != nil {
		return Kernel{}, errors.Join(err, updateErr)
	}
	pkg := dependency(string(out), f.Name)
	if pkg == "" {
		return Kernel{}, errors.Join(fmt.Errorf("linux-image-%s needs no kernel: %s", f.Name, bytes.TrimSpace(out)), updateErr)
	}
	if _, err := apt("apt-get", "download", "-qq", pkg); err != nil {
		return Kernel{}, errors.Join(err, updateErr)
	}
	debs, _ := filepath.Glob(filepath.Join(work, pkg+"_*.deb"))
	if len(debs) != 1 {
		return Kernel{}, fmt.Errorf("apt-get download %s left %d files", pkg, len(debs))
	}
	tree := filepath.Join(work, "tree")
	if _, err := apt("dpkg-deb", "-x", debs[0], tree); err != nil {
		return Kernel{}, err
	}
	final := filepath.Join(dir, pkg)
	if err := os.Rename(tree, final); err != nil && !errors.Is(err, os.ErrExist) {
		return Kernel{}, err
	}
	return Kernel{Dir: final, Version: strings.TrimPrefix(pkg, "linux-image-")}, nil
}

// dependency finds the kernel of a flavour in what apt-cache depends says.
func dependency(text, flavour string) string {
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: ")
		if ok && strings.HasPrefix(name, "linux-image-") && strings.HasSuffix(name, "-"+flavour) {
			return name
		}
	}
	return ""
}
