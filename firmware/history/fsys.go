package history

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/durable"
)

// file is what a segment needs of a file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Datasync() error
	Size() (int64, error)
}

// fsys is the file system: the seam at which tests inject faults and crashes.
type fsys interface {
	create(path string) (file, error) // truncates what is there
	open(path string) (file, error)
	remove(path string) error
	rename(from, to string) error
	syncDir(path string) error
	list(dir string) ([]string, error)
	makeDir(path string) error
}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	for {
		err := unix.Fdatasync(int(f.Fd())) //nolint:gosec // a descriptor fits
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (osFS) create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
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
func (osFS) makeDir(path string) error    { return durable.MakeDir(path, 0o700) }

func (osFS) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
