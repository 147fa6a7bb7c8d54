package chunks

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// File is the bundle while it is put together.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Assembly puts a file together from what is there, from seeds, and from what is fetched. One goroutine uses it.
type Assembly struct {
	x       *Index
	f       File
	offsets []int64 // of the chunks in the file
	data    []int64 // and in the data file
	have    []bool
	where   map[Hash][]int32
	buf     []byte
	missing int64 // bytes as stored
	lacking int   // chunks
}

// NewAssembly looks at what f holds of x already; f may be empty. It reads all of it, because a power cut may have left anything.
func NewAssembly(ctx context.Context, x *Index, f File) (*Assembly, error) {
	a := &Assembly{x: x, f: f, offsets: make([]int64, len(x.Chunks)), data: make([]int64, len(x.Chunks)), have: make([]bool, len(x.Chunks)), where: make(map[Hash][]int32, len(x.Chunks)), buf: make([]byte, MaxChunk)}
	var at, data int64
	for i, c := range x.Chunks {
		a.offsets[i], a.data[i] = at, data
		at, data = at+int64(c.Length), data+int64(c.Stored)
		a.where[c.Hash] = append(a.where[c.Hash], int32(i)) //nolint:gosec // at most MaxChunks
	}
	a.missing, a.lacking = data, len(x.Chunks)
	for i, c := range x.Chunks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := a.buf[:c.Length]
		if _, err := f.ReadAt(b, a.offsets[i]); err != nil {
			continue // it is not there; a disk that cannot be read shows when it is written
		}
		if hashOf(b) == c.Hash {
			a.mark(i)
		}
	}
	return a, nil
}

func (a *Assembly) mark(i int) {
	if !a.have[i] {
		a.have[i] = true
		a.lacking--
		a.missing -= int64(a.x.Chunks[i].Stored)
	}
}

// Missing returns the bytes that are still to be fetched, as stored.
func (a *Assembly) Missing() int64 { return a.missing }

// put writes a chunk wherever it belongs.
func (a *Assembly) put(b []byte, at []int32) error {
	for _, i := range at {
		if a.have[i] {
			continue
		}
		if _, err := a.f.WriteAt(b, a.offsets[i]); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		a.mark(int(i))
	}
	return nil
}

// Seed takes from r, a slot's content or a bundle, all chunks that the file needs.
func (a *Assembly) Seed(ctx context.Context, r io.Reader) error {
	cut := NewCutter(r)
	for a.lacking > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := cut.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if at := a.where[hashOf(b)]; at != nil {
			if err := a.put(b, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// span is a part of the data file that is missing in one piece.
type span struct {
	first, end int // chunks
	at, length int64
}

// next returns the first missing span from chunk i on, of at most most bytes (but one chunk at least). ok is false at the end.
func (a *Assembly) next(i int, most int64) (s span, ok bool) {
	for i < len(a.have) && a.have[i] {
		i++
	}
	if i == len(a.have) {
		return span{}, false
	}
	s = span{first: i, end: i, at: a.data[i]}
	for s.end < len(a.have) && !a.have[s.end] && (s.length == 0 || s.length+int64(a.x.Chunks[s.end].Stored) <= most) {
		s.length += int64(a.x.Chunks[s.end].Stored)
		s.end++
	}
	return s, true
}

// take reads the chunks of a span from r.
func (a *Assembly) take(s span, r io.Reader) error {
	stored := make([]byte, MaxChunk)
	for i := s.first; i < s.end; i++ {
		c := a.x.Chunks[i]
		if _, err := io.ReadFull(r, stored[:c.Stored]); err != nil {
			return fmt.Errorf("the answer ends early: %w", err)
		}
		b, err := c.unpack(stored[:c.Stored], a.buf)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrServer, err)
		}
		if err := a.put(b, a.where[c.Hash]); err != nil {
			return err
		}
	}
	return nil
}

// ErrServer is wrapped by errors that trying again does not mend: the server has something else than the index says.
var ErrServer = errors.New("the server's files do not fit")

// Verify reads the whole file and compares its hash.
func (a *Assembly) Verify(ctx context.Context) error {
	if a.lacking > 0 {
		return fmt.Errorf("%d chunks are missing", a.lacking)
	}
	sum := sha256.New()
	r := io.NewSectionReader(a.f, 0, a.x.Size)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(sum, r, 1<<20); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read the bundle: %w", err)
		}
	}
	if [sha256.Size]byte(sum.Sum(nil)) != a.x.Sum {
		return fmt.Errorf("%w: the whole is not what the index says", ErrServer)
	}
	return nil
}
