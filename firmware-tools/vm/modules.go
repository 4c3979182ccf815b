package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modules finds a kernel's modules, and what each needs, by the files
// themselves: a package that is not installed has no modules.dep.
type modules struct {
	files   map[string]string // module -> file
	builtin map[string]bool
	data    map[string][]byte // of those read
	order   []string
	state   map[string]int // 1: being added, 2: added
}

func openModules(k Kernel) (*modules, error) {
	m := &modules{files: map[string]string{}, builtin: map[string]bool{}, data: map[string][]byte{}, state: map[string]int{}}
	dir := filepath.Join(k.Dir, "lib/modules", k.Version)
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		m.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(d.Name(), ".ko") {
			m.files[moduleName(path)] = path
		}
		return err
	})
	return m, err
}

// moduleName is a module's name by its file: the kernel takes - for _.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// add puts a module behind those that it needs. One that is part of the kernel
// needs no loading.
func (m *modules) add(name string) error {
	name = moduleName(name)
	if m.builtin[name] || m.state[name] == 2 {
		return nil
	}
	path, ok := m.files[name]
	if !ok {
		return fmt.Errorf("module %s: this kernel has none", name)
	}
	if m.state[name] == 1 {
		return fmt.Errorf("module %s needs itself", name)
	}
	m.state[name] = 1
	data, err := readModule(path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	needs, err := moduleNeeds(data)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	for _, n := range needs.hard {
		if err := m.add(n); err != nil {
			return err
		}
	}
	for _, n := range needs.soft {
		if err := m.addSoft(n); err != nil {
			return err
		}
	}
	m.data[name], m.state[name] = data, 2
	m.order = append(m.order, name)
	return nil
}

// addSoft adds what a module can do without, or asks for by the name of an
// algorithm: crypto-crc32c is had from crc32c_generic.
func (m *modules) addSoft(name string) error {
	name = strings.TrimPrefix(moduleName(name), "crypto_")
	for _, n := range []string{name, name + "_generic"} {
		if _, ok := m.files[n]; ok && m.state[n] == 0 {
			return m.add(n)
		}
	}
	return nil
}

// readModule reads a module, unpacked: newer kernels pack theirs.
func readModule(path string) ([]byte, error) {
	unpack := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(path)]
	if unpack == "" {
		return os.ReadFile(path)
	}
	program, err := tool(unpack, map[string]string{"xz": "xz-utils", "zstd": "zstd", "gzip": "gzip"}[unpack])
	if err != nil {
		return nil, err
	}
	return exec.Command(program, "-dc", path).Output()
}

// needs is what a module wants loaded before it.
type needs struct{ hard, soft []string }

// moduleNeeds reads "depends=a,b" and "softdep=pre: c d post: e" of a module's
// .modinfo, texts that each end with a NUL.
func moduleNeeds(data []byte) (n needs, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return n, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return n, errors.New("no .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return n, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			n.hard = append(n.hard, strings.Split(list, ",")...)
		}
		if list, ok := strings.CutPrefix(entry, "softdep=pre:"); ok {
			list, _, _ = strings.Cut(list, "post:")
			n.soft = append(n.soft, strings.Fields(list)...)
		}
	}
	return n, nil
}
