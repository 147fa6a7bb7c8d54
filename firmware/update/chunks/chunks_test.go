package chunks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func cutAll(t *testing.T, b []byte) (out [][]byte) {
	t.Helper()
	c := NewCutter(bytes.NewReader(b))
	for {
		chunk, err := c.Next()
		if errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(chunk))
	}
}

func TestCut(t *testing.T) {
	b := noise(1, 3<<20)
	chunks := cutAll(t, b)
	if !bytes.Equal(bytes.Join(chunks, nil), b) {
		t.Fatal("the chunks are not the whole")
	}
	for i, c := range chunks {
		if len(c) > MaxChunk || len(c) < MinChunk && i < len(chunks)-1 {
			t.Errorf("chunk %d has %d bytes", i, len(c))
		}
	}
	if n := len(b) / len(chunks); n < 8<<10 || n > 14<<10 {
		t.Errorf("%d bytes a chunk on average", n)
	}
	for _, b := range [][]byte{nil, {1}, make([]byte, 5*MaxChunk), noise(2, MinChunk)} {
		if got := bytes.Join(cutAll(t, b), nil); !bytes.Equal(got, b) {
			t.Errorf("%d bytes came back as %d", len(b), len(got))
		}
	}
}

// TestCutFindsMovedContent: what is put in front or between moves the rest, and costs a chunk or two.
func TestCutFindsMovedContent(t *testing.T) {
	b := noise(3, 2<<20)
	known := map[Hash]bool{}
	for _, c := range cutAll(t, b) {
		known[hashOf(c)] = true
	}
	moved := append(noise(4, 777), b[:1<<20]...)
	moved = append(append(moved, noise(5, 99)...), b[1<<20:]...)
	unknown := 0
	for _, c := range cutAll(t, moved) {
		if !known[hashOf(c)] {
			unknown++
		}
	}
	if unknown > 4 {
		t.Errorf("%d chunks are unknown after two insertions", unknown)
	}
}

func publish(t *testing.T, b []byte) (*Index, []byte) {
	t.Helper()
	var data bytes.Buffer
	x, err := Write(&data, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return x, data.Bytes()
}

func TestIndex(t *testing.T) {
	content := append(noise(6, 1<<20), make([]byte, 1<<20)...)
	x, data := publish(t, content)
	if len(data) > 5*len(content)/8 {
		t.Errorf("half of %d bytes is zeros, and %d are stored", len(content), len(data))
	}
	text := x.Append(nil)
	back, err := ParseIndex(text)
	if err != nil || back.Size != x.Size || back.Sum != x.Sum || len(back.Chunks) != len(x.Chunks) {
		t.Fatalf("the index came back as %+v, %v", back, err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "cut": text[:len(text)-1], "longer": append(bytes.Clone(text), 0), "other": []byte("#!/bin/sh\n exit 0 # and more than the header has, so that this is not what is refused"),
		"huge": append(append([]byte(magic), bytes.Repeat([]byte{0xff}, 44)...), text[headerSize:]...), "large": append(bytes.Clone(text[:headerSize]), make([]byte, MaxIndex)...),
		"sum": append(append(bytes.Clone(text[:15]), text[15]+1), text[16:]...),
	} {
		if _, err := ParseIndex(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want an error that wraps ErrMalformed", name, err)
		}
	}
}

// endless is what a hostile server sends after the beginning of an index. read counts what is taken of it.
type endless struct {
	head []byte
	read int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.head)
	e.head = e.head[n:]
	e.read += int64(len(p))
	return len(p), nil
}

// TestIndexLimits: an index that names too much is refused by its header, with the figures, and one that goes on without end costs what its count allows.
func TestIndexLimits(t *testing.T) {
	head := func(size uint64, count uint32) []byte {
		b := binary.BigEndian.AppendUint64([]byte(magic), size)
		return binary.BigEndian.AppendUint32(append(b, make([]byte, 32)...), count)
	}
	for name, c := range map[string]struct {
		size  uint64
		count uint32
		most  int64
		says  string
		reads int64
	}{
		"chunks":        {1 << 20, MaxChunks + 1, 1 << 30, "names 1048576 bytes in 65537 chunks, and at most 1073741824 bytes (what a slot of this gateway can hold) in 65536", int64(headerSize)},
		"all the count": {1 << 20, 1<<32 - 1, 1 << 30, "in 4294967295 chunks", int64(headerSize)},
		"size":          {100<<20 + 1, 10, 100 << 20, "names 104857601 bytes in 10 chunks, and at most 104857600 bytes", int64(headerSize)},
		"all the size":  {1<<64 - 1, 10, 1 << 40, "and at most 4294967296 bytes", int64(headerSize)},
		"without end":   {1 << 20, 10, 1 << 30, "chunk 0", 4096},
	} {
		r := &endless{head: head(c.size, c.count)}
		_, _, err := ReadIndex(r, c.most)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.says) || r.read > c.reads {
			t.Errorf("%s: %v after %d bytes, want %q after at most %d", name, err, r.read, c.says, c.reads)
		}
	}
	if _, err := ParseIndex(head(0, 0)); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func FuzzParseIndex(f *testing.F) {
	var data bytes.Buffer
	x, err := Write(&data, bytes.NewReader(noise(7, 40<<10)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(x.Append(nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		if again, err := ParseIndex(x.Append(nil)); err != nil || again.Size != x.Size || len(again.Chunks) != len(x.Chunks) {
			t.Fatalf("an index does not survive being written: %v", err)
		}
		buf := make([]byte, MaxChunk)
		for _, c := range x.Chunks[:min(len(x.Chunks), 4)] { // whatever the server sends for it
			if _, err := c.unpack(make([]byte, c.Stored), buf); err == nil && hashOf(buf[:c.Length]) != c.Hash && c.Stored != c.Length {
				t.Fatal("a chunk was accepted that is not what the index says")
			}
		}
	})
}
