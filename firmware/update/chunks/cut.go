package chunks

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Lengths of chunks in bytes. They are part of the format: a server and a gateway have to cut alike. Smaller ones find more of a binary that was built anew and
// cost more index; ADR 0019 has the figures.
const (
	MinChunk = 2 << 10
	MaxChunk = 64 << 10
	bits     = 13 // a boundary every 2^13 bytes behind MinChunk, on average
)

// HashSize is the length of a chunk's hash: SHA-256, cut to 128 bits.
const HashSize = 16

// Hash names a chunk.
type Hash [HashSize]byte

func hashOf(b []byte) (h Hash) {
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

// gear returns the table of the rolling hash: 256 numbers of splitmix64.
func gear() *[256]uint64 {
	var t [256]uint64
	x := uint64(0x5ce1e77)
	for i := range t {
		x += 0x9e3779b97f4a7c15
		z := x
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t[i] = z ^ z>>31
	}
	return &t
}

// Cutter cuts a stream into chunks.
type Cutter struct {
	r    *bufio.Reader
	gear *[256]uint64
	buf  []byte
}

// NewCutter returns a Cutter of r.
func NewCutter(r io.Reader) *Cutter {
	return &Cutter{r: bufio.NewReaderSize(r, 2*MaxChunk), gear: gear(), buf: make([]byte, MaxChunk)}
}

// Next returns the next chunk, which is valid until the next call; io.EOF at the end.
func (c *Cutter) Next() ([]byte, error) {
	ahead, err := c.r.Peek(MaxChunk)
	if len(ahead) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read: %w", err)
	}
	n := c.boundary(ahead)
	_, err = io.ReadFull(c.r, c.buf[:n])
	return c.buf[:n], err
}

// boundary returns the length of the first chunk of b. The hash sees the last 64 bytes, so that a cut depends on nothing before them.
func (c *Cutter) boundary(b []byte) int {
	if len(b) <= MinChunk {
		return len(b)
	}
	var h uint64
	for i := MinChunk - 64; i < MinChunk; i++ {
		h = h<<1 + c.gear[b[i]]
	}
	for i := MinChunk; i < len(b); i++ {
		if h>>(64-bits) == 0 {
			return i
		}
		h = h<<1 + c.gear[b[i]]
	}
	return len(b)
}
