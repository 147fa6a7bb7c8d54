package bootenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// OnTrial says whether a slot that runs has still to show that it is well, and the one that was last confirmed can be gone back to.
func (e Env) OnTrial(running Slot) bool {
	return e.Confirmed != "" && e.Confirmed != running && e.Left[e.Confirmed] > 0
}

// Peek reads the two partitions (or files) without waiting for whoever has them open. A copy that is just being written is read as damaged; the other one is whole then.
// Its error is that neither could be opened.
func Peek(paths [2]string) (Env, Condition, error) {
	var problems []error
	d := &Disk{size: Size}
	for i, path := range paths {
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			problems = append(problems, fmt.Errorf("open copy %d of the boot environment: %w", i, err))
			d.copies[i] = missing{err: err}
			continue
		}
		defer f.Close() //nolint:errcheck // only read
		d.copies[i] = file{f}
	}
	if len(problems) == len(paths) {
		return Env{}, Condition{}, errors.Join(problems...)
	}
	e, c := d.Read()
	return e, c, nil
}

// missing is a copy that cannot be opened.
type missing struct {
	Copy
	err error
}

func (m missing) ReadAt([]byte, int64) (int, error) { return 0, m.err }
