package powercut

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// mode says what becomes of operations that were not synced when the power went.
type mode uint8

const (
	keepNone    mode = iota // nothing of them reached the disk
	keepAll                 // all
	keepOps                 // some, in any order
	keepSectors             // some sectors of each
	keepTorn                // all but the last write, of which only the beginning did
	modes
)

func (m mode) String() string { return [...]string{"none", "all", "some", "sectors", "torn"}[m] }

const sector = 512 // what a disk writes at once

// image is a file system after a cut.
type image struct {
	dirs  []string
	files map[string][]byte
}

// cut returns what is on the disk when the power goes after the first n operations.
func cut(ops []op, n int, m mode, rng *rand.Rand) image {
	c := cutter{ops: ops[:n], mode: m, rng: rng, synced: map[uint64]int{}, dirSynced: map[string]int{}, content: map[uint64][]byte{}}
	for _, o := range c.ops {
		switch o.kind {
		case opSync:
			c.synced[o.file] = max(c.synced[o.file], o.begun)
		case opSyncDir:
			c.dirSynced[o.path] = max(c.dirSynced[o.path], o.begun)
		}
	}
	for i := n - 1; i >= 0 && c.last == 0; i-- {
		if ops[i].kind == opWrite {
			c.last = i
		}
	}
	c.files()
	return c.folders()
}

type cutter struct {
	ops       []op
	mode      mode
	rng       *rand.Rand
	synced    map[uint64]int // operations on a file before this one are on the disk
	dirSynced map[string]int
	last      int // the last write
	content   map[uint64][]byte
}

// files plays what is in files.
func (c *cutter) files() {
	for i, o := range c.ops {
		switch o.kind {
		case opWrite:
			c.write(i, o)
		case opTruncate:
			if i < c.synced[o.file] || c.keep(i) {
				b := c.content[o.file]
				c.content[o.file] = append(b[:min(int64(len(b)), o.off):min(int64(len(b)), o.off)], make([]byte, max(0, o.off-int64(len(b))))...)
			}
		}
	}
}

// keep decides about an operation as a whole.
func (c *cutter) keep(i int) bool {
	switch c.mode {
	case keepNone:
		return false
	case keepAll:
		return true
	case keepTorn:
		return i < c.last
	default:
		return c.rng.IntN(2) == 0
	}
}

func (c *cutter) write(i int, o op) {
	switch {
	case i < c.synced[o.file]:
		c.put(o.file, o.off, o.data)
	case c.mode == keepTorn && i == c.last:
		c.put(o.file, o.off, o.data[:c.torn(o)])
	case c.mode == keepSectors:
		for from := int64(0); from < int64(len(o.data)); {
			to := min((o.off+from)/sector*sector+sector-o.off, int64(len(o.data)))
			if c.rng.IntN(2) == 0 {
				c.put(o.file, o.off+from, o.data[from:to])
			}
			from = to
		}
	case c.keep(i):
		c.put(o.file, o.off, o.data)
	}
}

// torn returns how much of a write reaches the disk: whole sectors, now and then less, as on flash without atomic sectors.
func (c *cutter) torn(o op) int {
	n := c.rng.IntN(len(o.data) + 1)
	if c.rng.IntN(4) != 0 {
		n = max(0, int((o.off+int64(n))/sector*sector-o.off))
	}
	return n
}

func (c *cutter) put(file uint64, off int64, data []byte) {
	b := c.content[file]
	if end := off + int64(len(data)); end > int64(len(b)) {
		if end > int64(cap(b)) {
			b = slices.Grow(b, int(end)-len(b)+1<<16)
		}
		old := len(b)
		b = b[:end]
		clear(b[old:])
	}
	copy(b[off:], data)
	c.content[file] = b
}

// folders plays what is in folders: of those changes of a folder that were not synced, the first ones are there, up to some point, as a journal keeps them.
func (c *cutter) folders() image {
	until := map[string]int{}
	decide := func(dir string) int {
		at, ok := until[dir]
		if !ok {
			at = c.dirSynced[dir]
			switch c.mode {
			case keepNone:
			case keepAll, keepTorn:
				at = len(c.ops)
			default:
				at += c.rng.IntN(len(c.ops) - at + 1)
			}
			until[dir] = at
		}
		return at
	}
	names, dirs := map[string]uint64{}, map[string]bool{}
	for i, o := range c.ops {
		if o.kind == opSync || o.kind == opSyncDir || o.path == "" || i >= decide(filepath.Dir(o.path)) {
			continue
		}
		switch o.kind {
		case opCreate:
			names[o.path] = o.file
		case opMkdir:
			dirs[o.path] = true
		case opRemove:
			delete(names, o.path)
		case opRename:
			if id, ok := names[o.path]; ok {
				names[o.to] = id
				delete(names, o.path)
			}
		}
	}
	img := image{files: map[string][]byte{}}
	for dir := range dirs {
		img.dirs = append(img.dirs, dir)
	}
	slices.Sort(img.dirs)
	for path, id := range names {
		if dir := filepath.Dir(path); dir == "." || dirs[dir] {
			img.files[path] = c.content[id]
		}
	}
	return img
}

// write makes dir hold the image, and nothing else.
func (img image) write(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range img.dirs {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	for path, content := range img.files {
		if err := os.WriteFile(filepath.Join(dir, path), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
