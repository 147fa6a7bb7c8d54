package cutlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Recorder is a disk in memory that notes what is written to it. It is for one goroutine.
type Recorder struct {
	content []byte
	log     bytes.Buffer
	entries uint64
}

// NewRecorder returns a disk with a content, which it changes.
func NewRecorder(content []byte) *Recorder {
	r := &Recorder{content: content}
	r.log.Write(make([]byte, SectorSize)) // the head is written by Log
	return r
}

// ReadAt implements io.ReaderAt: what was written is read, flushed or not.
func (r *Recorder) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(r.content).ReadAt(p, off)
}

// WriteAt implements io.WriterAt. Only whole sectors are written.
func (r *Recorder) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off%SectorSize != 0 || len(p)%SectorSize != 0 || off+int64(len(p)) > int64(len(r.content)) {
		return 0, fmt.Errorf("write %d bytes at %d: only whole sectors of the disk's %d bytes are written", len(p), off, len(r.content))
	}
	copy(r.content[off:], p)
	r.add(off/SectorSize, int64(len(p))/SectorSize, 0)
	r.log.Write(p)
	return len(p), nil
}

// Sync flushes.
func (r *Recorder) Sync() error {
	r.add(0, 0, Flush)
	return nil
}

func (r *Recorder) add(start, count int64, flags Flags) {
	b := make([]byte, SectorSize)
	binary.LittleEndian.PutUint64(b, uint64(start))     //nolint:gosec // not negative
	binary.LittleEndian.PutUint64(b[8:], uint64(count)) //nolint:gosec // not negative
	binary.LittleEndian.PutUint64(b[16:], uint64(flags))
	r.log.Write(b)
	r.entries++
}

// Log returns what was noted so far, through the format of a log.
func (r *Recorder) Log() (*Log, error) {
	b := bytes.Clone(r.log.Bytes())
	binary.LittleEndian.PutUint64(b, magic)
	binary.LittleEndian.PutUint64(b[8:], version)
	binary.LittleEndian.PutUint64(b[16:], r.entries)
	binary.LittleEndian.PutUint32(b[24:], SectorSize)
	return Read(bytes.NewReader(b), int64(len(b)))
}

var (
	_ io.ReaderAt = (*Recorder)(nil)
	_ io.WriterAt = (*Recorder)(nil)
)
