package chunks

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits of an index, so that a wrong one costs little: they are looked at before memory is taken. What a gateway's slot holds sets the limit of a bundle's size.
const (
	MaxChunks = 64 << 10
	MaxSize   = 4 << 30 // bytes of a bundle: all chunks at their longest
	MaxIndex  = int64(headerSize + MaxChunks*maxEntry)
	maxEntry  = 2*3 + HashSize // of one chunk: two lengths of at most 64 Ki as varints, and the hash
)

const (
	magic      = "SKIDX1\n\x00"
	headerSize = len(magic) + 8 + sha256.Size + 4
)

// ErrMalformed is wrapped by errors of ParseIndex.
var ErrMalformed = errors.New("malformed index")

// Index says what a file consists of.
type Index struct {
	Size   int64             // of the file
	Sum    [sha256.Size]byte // SHA-256 of the file
	Chunks []Chunk
}

// Chunk is one piece of the file. Offsets follow from the chunks before it.
type Chunk struct {
	Hash   Hash
	Length int32 // in the file
	Stored int32 // in the data file; as long as Length: it is not compressed
}

// Append writes the index behind b.
func (x *Index) Append(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(x.Size)) //nolint:gosec // not negative
	b = append(b, x.Sum[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(x.Chunks))) //nolint:gosec // at most MaxChunks
	for _, c := range x.Chunks {
		b = binary.AppendUvarint(b, uint64(c.Length)) //nolint:gosec // not negative
		b = binary.AppendUvarint(b, uint64(c.Stored)) //nolint:gosec // not negative
		b = append(b, c.Hash[:]...)
	}
	return b
}

// ParseIndex reads an index that is in memory. Errors wrap ErrMalformed.
func ParseIndex(b []byte) (*Index, error) {
	x, _, err := ReadIndex(bytes.NewReader(b), MaxSize)
	return x, err
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// ReadIndex reads the index of a file of at most most bytes, and returns how much it has read. Its errors wrap ErrMalformed, or are r's.
func ReadIndex(r io.Reader, most int64) (x *Index, n int64, err error) {
	head, err := io.ReadAll(io.LimitReader(r, int64(headerSize)))
	if n = int64(len(head)); err != nil {
		return nil, n, err
	}
	if len(head) < headerSize || string(head[:len(magic)]) != magic {
		return nil, n, malformed("it does not begin as one")
	}
	size, count := binary.BigEndian.Uint64(head[len(magic):]), binary.BigEndian.Uint32(head[headerSize-4:])
	if most = min(most, MaxSize); size > uint64(most) || count > MaxChunks { //nolint:gosec // not negative
		return nil, n, malformed("it names %d bytes in %d chunks, and at most %d bytes (what a slot of this gateway can hold) in %d chunks are taken", size, count, most, MaxChunks)
	}
	rest, err := io.ReadAll(io.LimitReader(r, int64(count)*maxEntry+1))
	if n += int64(len(rest)); err != nil {
		return nil, n, err
	}
	if int64(count)*(HashSize+2) > int64(len(rest)) {
		return nil, n, malformed("%d bytes are too little for %d chunks", len(rest), count)
	}
	x = &Index{Size: int64(size), Chunks: make([]Chunk, 0, count)} //nolint:gosec // limited above
	copy(x.Sum[:], head[len(magic)+8:])
	return x, n, x.read(rest, int(count))
}

// read reads the chunks, which have to be all of rest and all of the file.
func (x *Index) read(rest []byte, count int) error {
	var sum int64
	for i := range count {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length == 0 || length > MaxChunk {
			return malformed("the length of chunk %d", i)
		}
		rest = rest[n:]
		stored, n := binary.Uvarint(rest)
		if n <= 0 || stored == 0 || stored > length || len(rest)-n < HashSize {
			return malformed("the stored length of chunk %d", i)
		}
		rest = rest[n:]
		c := Chunk{Length: int32(length), Stored: int32(stored)} //nolint:gosec // limited above
		copy(c.Hash[:], rest)
		rest = rest[HashSize:]
		x.Chunks = append(x.Chunks, c)
		sum += int64(c.Length)
	}
	if len(rest) > 0 || sum != x.Size {
		return malformed("its chunks are %d bytes, and the whole is %d", sum, x.Size)
	}
	return nil
}

// Write cuts src, writes the chunks to data, and returns the index.
func Write(data io.Writer, src io.Reader) (*Index, error) {
	x := &Index{}
	whole := sha256.New()
	cut := NewCutter(io.TeeReader(src, whole))
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	for {
		b, err := cut.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		packed.Reset()
		z.Reset(&packed)
		if _, err := z.Write(b); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		stored := packed.Bytes()
		if len(stored) >= len(b) {
			stored = b
		}
		if _, err := data.Write(stored); err != nil {
			return nil, err
		}
		x.Chunks = append(x.Chunks, Chunk{Hash: hashOf(b), Length: int32(len(b)), Stored: int32(len(stored))}) //nolint:gosec // at most MaxChunk
		x.Size += int64(len(b))
	}
	if x.Size > MaxSize || len(x.Chunks) > MaxChunks {
		return nil, fmt.Errorf("%d bytes in %d chunks: at most %d in %d can be published", x.Size, len(x.Chunks), int64(MaxSize), MaxChunks)
	}
	whole.Sum(x.Sum[:0])
	return x, nil
}

// unpack returns the chunk that was stored as b, after checking it. buf has room for MaxChunk bytes.
func (c Chunk) unpack(b, buf []byte) ([]byte, error) {
	if c.Stored != c.Length {
		n, err := io.ReadFull(flate.NewReader(bytes.NewReader(b)), buf[:c.Length])
		if err != nil {
			return nil, fmt.Errorf("a chunk does not unpack after %d of %d bytes: %w", n, c.Length, err)
		}
		b = buf[:n]
	}
	if hashOf(b) != c.Hash {
		return nil, errors.New("a chunk is not what the index says")
	}
	return b, nil
}
