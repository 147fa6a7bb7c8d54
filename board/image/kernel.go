package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// kernel is Debian's kernel package, unpacked.
type kernel struct {
	root    string
	version string
	deps    map[string][]string // kernel/…/x.ko: what it needs, the first needed last
	byName  map[string]string   // x, with _ for -: its path
	builtin map[string]bool
}

// openKernel unpacks a kernel's package once and reads what its modules need.
func openKernel(ctx context.Context, deb, dir string) (*kernel, error) {
	done := filepath.Join(dir, "complete")
	if _, err := os.Stat(done); err != nil {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
			return nil, err
		}
	}
	list, err := filepath.Glob(filepath.Join(dir, "lib/modules/*"))
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("%s holds %d kernels", filepath.Base(deb), len(list))
	}
	k := &kernel{root: dir, version: filepath.Base(list[0]), deps: map[string][]string{}, byName: map[string]string{}, builtin: map[string]bool{}}
	if _, err := os.Stat(done); err != nil {
		if _, err := run(ctx, "", "depmod", "-b", dir, k.version); err != nil {
			return nil, err
		}
		if err := os.WriteFile(done, nil, 0o644); err != nil {
			return nil, err
		}
	}
	return k, k.read()
}

func (k *kernel) dir() string { return filepath.Join(k.root, "lib/modules", k.version) }

func (k *kernel) read() error {
	dep, err := os.ReadFile(filepath.Join(k.dir(), "modules.dep"))
	if err != nil {
		return err
	}
	for s := bufio.NewScanner(bytes.NewReader(dep)); s.Scan(); {
		file, needs, _ := strings.Cut(s.Text(), ":")
		k.deps[file] = strings.Fields(needs)
		k.byName[moduleName(file)] = file
	}
	built, err := os.ReadFile(filepath.Join(k.dir(), "modules.builtin"))
	if err != nil {
		return err
	}
	for s := bufio.NewScanner(bytes.NewReader(built)); s.Scan(); {
		k.builtin[moduleName(s.Text())] = true
	}
	return nil
}

func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// pick returns the modules that these words name, and what they need, in an order in which they can be loaded. A word is a module's name, or a folder
// below kernel/ with a slash at its end; a question mark behind it says that a kernel may lack it.
func (k *kernel) pick(words []string) ([]string, error) {
	var out []string
	have := map[string]bool{}
	add := func(file string) {
		needs := slices.Clone(k.deps[file])
		slices.Reverse(needs)
		for _, f := range append(needs, file) {
			if !have[f] {
				have[f] = true
				out = append(out, f)
			}
		}
	}
	for _, w := range words {
		word, optional := strings.CutSuffix(w, "?")
		if strings.HasSuffix(word, "/") {
			found := false
			for _, f := range slices.Sorted(func(yield func(string) bool) {
				for f := range k.deps {
					if strings.HasPrefix(f, "kernel/"+word) && !yield(f) {
						return
					}
				}
			}) {
				found = true
				add(f)
			}
			if !found && !optional {
				return nil, fmt.Errorf("kernel %s has no modules in kernel/%s", k.version, word)
			}
			continue
		}
		name := strings.ReplaceAll(word, "-", "_")
		if file, ok := k.byName[name]; ok {
			add(file)
		} else if !k.builtin[name] && !optional {
			return nil, fmt.Errorf("kernel %s has no module %s", k.version, word)
		}
	}
	return out, nil
}

// install puts the picked modules with their index files into a root.
func (k *kernel) install(ctx context.Context, t *Tree, files []string, work string) error {
	base := filepath.Join(work, "lib/modules", k.version)
	for _, f := range append(slices.Clone(files), "modules.builtin", "modules.builtin.modinfo", "modules.order") {
		b, err := os.ReadFile(filepath.Join(k.dir(), f))
		if err != nil {
			return err
		}
		at := filepath.Join(base, f)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, b, 0o644); err != nil {
			return err
		}
	}
	if _, err := run(ctx, "", "depmod", "-b", work, k.version); err != nil {
		return err
	}
	return filepath.WalkDir(base, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(work, at)
		if err != nil {
			return err
		}
		t.File(rel, 0o644, b)
		return nil
	})
}

// initrd returns a compressed initramfs with the program and the modules.
func (k *kernel) initrd(program []byte, files []string) ([]byte, error) {
	var cpio cpioWriter
	for _, d := range []string{"dev", "proc", "sys", "run", "sysroot", "modules"} {
		cpio.add(d, 0o40755, nil, 0)
	}
	cpio.add("dev/console", 0o20600, nil, 5<<8|1)
	cpio.add("init", 0o100755, program, 0)
	for i, f := range files {
		b, err := os.ReadFile(filepath.Join(k.dir(), f))
		if err != nil {
			return nil, err
		}
		cpio.add(fmt.Sprintf("modules/%03d-%s", i, path.Base(f)), 0o100644, b, 0)
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(cpio.close()); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil { // before the bytes are looked at
		return nil, err
	}
	return out.Bytes(), nil
}

// cpioWriter makes a "newc" archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), with times of zero.
type cpioWriter struct {
	b bytes.Buffer
	n int
}

func (w *cpioWriter) add(name string, mode uint32, body []byte, dev uint32) {
	w.n++
	fmt.Fprintf(&w.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", w.n, mode, 0, 0, 1, 0, len(body), 0, 0, dev>>8, dev&0xff, len(name)+1, 0)
	w.b.WriteString(name)
	w.b.WriteByte(0)
	w.pad()
	w.b.Write(body)
	w.pad()
}

func (w *cpioWriter) pad() {
	for w.b.Len()%4 != 0 {
		w.b.WriteByte(0)
	}
}

func (w *cpioWriter) close() []byte {
	w.add("TRAILER!!!", 0, nil, 0)
	return w.b.Bytes()
}
