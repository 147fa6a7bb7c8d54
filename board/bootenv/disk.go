package bootenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Copy is where one copy is kept: a partition, or a file.
type Copy interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when all that was written is on the medium.
	Sync() error
	// Forget drops what is cached, so that the next read is one of the medium.
	Forget() error
}

// Disk is the two copies. Only one goroutine may use it at a time.
type Disk struct {
	copies [2]Copy
	size   int
	close  func() error
}

// New returns a Disk of two copies with size bytes each.
func New(copies [2]Copy, size int) *Disk {
	return &Disk{copies: copies, size: size, close: func() error { return nil }}
}

// Open opens the two partitions (or files), and waits until nobody else has them open through this package. Close it soon.
func Open(paths [2]string) (*Disk, error) {
	var files [2]*os.File
	d := &Disk{size: Size}
	d.close = func() (err error) {
		for _, f := range files {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
		return err
	}
	for i, path := range paths {
		f, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open copy %d of the boot environment: %w", i, err), d.close())
		}
		files[i] = f
		d.copies[i] = file{f}
	}
	if err := unix.Flock(int(files[0].Fd()), unix.LOCK_EX); err != nil { //nolint:gosec // a descriptor fits
		return nil, errors.Join(fmt.Errorf("lock the boot environment %s: %w", paths[0], err), d.close())
	}
	return d, nil
}

type file struct{ *os.File }

func (f file) Forget() error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) //nolint:gosec // a descriptor fits
}

// Close gives the copies back.
func (d *Disk) Close() error { return d.close() }

// Condition says how the copies were found.
type Condition struct {
	Problems [2]error // of each copy; nil: it is whole
	Stale    bool     // both are whole, and differ: a write was cut short
}

// Lost says that neither copy was whole.
func (c Condition) Lost() bool { return c.Problems[0] != nil && c.Problems[1] != nil }

// newest returns the index of the copy that counts, or -1.
func newest(found [2]Env, problems [2]error) int {
	switch {
	case problems[0] != nil && problems[1] != nil:
		return -1
	case problems[0] != nil, problems[1] == nil && found[1].Seq > found[0].Seq:
		return 1
	}
	return 0
}

// Read returns the environment: that of the whole copy with the higher number, or Default if there is none. It never fails: a gateway boots without an
// environment, too, and what is wrong is in the condition.
func (d *Disk) Read() (Env, Condition) {
	e, c, _ := d.look()
	return e, c
}

func (d *Disk) look() (Env, Condition, int) {
	var c Condition
	var found [2]Env
	for i, copy := range d.copies {
		found[i], c.Problems[i] = d.read(copy)
	}
	best := newest(found, c.Problems)
	if best < 0 {
		return Default(), c, best
	}
	c.Stale = c.Problems[0] == nil && c.Problems[1] == nil && !found[0].Equal(found[1])
	return found[best], c, best
}

func (d *Disk) read(c Copy) (Env, error) {
	block := make([]byte, d.size)
	if _, err := c.ReadAt(block, 0); err != nil {
		return Env{}, fmt.Errorf("read: %w", err)
	}
	return Parse(block)
}

// Update reads, has change do its work, and writes both copies. After an error the environment is the one before, whole. The copy that counts is not touched unless the new
// state is on the medium in the other one: a disk that takes no writes would otherwise be left with no whole copy at all if the power fails. So one copy that cannot be
// written keeps the environment from being changed; if it is the one that counted, the other one counts from now on, and that is no error.
func (d *Disk) Update(change func(*Env) error) (Env, error) {
	e, _, best := d.look()
	if err := change(&e); err != nil {
		return e, err
	}
	return e, d.write(&e, best)
}

// write leaves the copy that counts now to the last: until the other one is on the medium it may be the only whole one.
func (d *Disk) write(e *Env, best int) error {
	if e.Seq++; e.Seq > maxSeq {
		return errors.New("the boot environment has been written too often")
	}
	block, err := e.Encode(d.size)
	if err != nil {
		return err
	}
	first, second := 0, 1
	if best == 0 {
		first, second = 1, 0
	}
	fail := func(i int, err error) error { return fmt.Errorf("copy %d of the boot environment: %w", i, err) }
	switch err := put(d.copies[first], block); {
	case err == nil:
		_ = put(d.copies[second], block) // it is written anew at the next update
		return nil
	case best >= 0:
		return fmt.Errorf("%w: copy %d is left as it is, so the environment is the one before: exchange the disk if this stays", fail(first, err), second)
	default: // no copy is whole, so none can be lost
		if again := put(d.copies[second], block); again != nil {
			return errors.Join(fail(first, err), fail(second, again))
		}
		return nil
	}
}

// put writes a copy and returns nil only if the medium gives it back.
func put(c Copy, block []byte) error {
	if _, err := c.WriteAt(block, 0); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := c.Sync(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := c.Forget(); err != nil {
		return fmt.Errorf("drop the cache: %w", err)
	}
	back := make([]byte, len(block))
	if _, err := c.ReadAt(back, 0); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if !bytes.Equal(back, block) {
		return errors.New("what was written is not what is read back")
	}
	return nil
}
