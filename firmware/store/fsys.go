package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// file is what a log segment needs of a file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Datasync() error
	Size() (int64, error)
}

// fsys is the log's file system: the seam at which tests inject a full disk.
type fsys interface {
	create(path string) (file, error) // fails if path exists
	open(path string) (file, error)
	remove(path string) error
	rename(from, to string) error
	syncDir(path string) error
	list(dir string) ([]string, error) // sorted
}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Datasync() error { return datasync(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) open(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) remove(path string) error     { return os.Remove(path) }
func (osFS) rename(from, to string) error { return os.Rename(from, to) }

func (osFS) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// keptDamaged is how many damaged files of one kind are kept for diagnosis.
const keptDamaged = 3

// setAside renames path to path.damaged-N, with N above all that there are, and removes the oldest beyond keptDamaged of
// its kind (its name up to the first dash or dot).
func setAside(fsx fsys, path string) (string, error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	names, err := fsx.list(dir)
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	type old struct {
		n    int
		name string
	}
	var olds []old
	next := 1
	for _, name := range names {
		stem, num, ok := strings.Cut(name, ".damaged-")
		n, err := strconv.Atoi(num)
		if !ok || err != nil || damagedKind(stem) != damagedKind(base) {
			continue
		}
		olds = append(olds, old{n, name})
		next = max(next, n+1)
	}
	slices.SortFunc(olds, func(a, b old) int { return a.n - b.n })
	for len(olds) >= keptDamaged {
		if err := fsx.remove(filepath.Join(dir, olds[0].name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("store: %w", err)
		}
		olds = olds[1:]
	}
	to := path + ".damaged-" + strconv.Itoa(next)
	if err := fsx.rename(path, to); err != nil {
		return "", fmt.Errorf("store: setting a damaged file aside: %w", err)
	}
	if err := fsx.syncDir(dir); err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return to, nil
}

func damagedKind(base string) string {
	if strings.HasPrefix(base, "log-") {
		return "log"
	}
	return base
}
