package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

const (
	headerSize   = 8        // type, chunk kind, size
	bufferSize   = 64 << 10 // of one chunk, both ways (Part 6, section 7.1.2.3: at least 8192)
	maxMessage   = 4 << 20  // of one response
	maxChunks    = 4096     // of one response
	minBuffer    = 8 << 10
	symmetricEnd = 16 // header, channel id, token id
	sequenceSize = 8
)

// frame is one chunk as it comes from the wire.
type frame struct {
	kind  string // "MSG", "OPN", "ACK", "ERR"
	chunk byte   // 'F', 'C', 'A'
	b     []byte // all of it; valid until the next one is read
}

// readFrame reads one chunk into buf.
func readFrame(r io.Reader, buf []byte) (frame, error) {
	if _, err := io.ReadFull(r, buf[:headerSize]); err != nil {
		return frame{}, err
	}
	size := binary.LittleEndian.Uint32(buf[4:])
	if size < headerSize || size > uint32(len(buf)) {
		return frame{}, fmt.Errorf("a message of the server claims %d bytes; that is not OPC UA, or not what was agreed", size)
	}
	if _, err := io.ReadFull(r, buf[headerSize:size]); err != nil {
		return frame{}, err
	}
	return frame{kind: string(buf[:3]), chunk: buf[3], b: buf[:size]}, nil
}

// appendHeader starts a chunk; putSize completes it.
func appendHeader(b []byte, kind string, chunk byte) []byte {
	return append(append(append(b, kind...), chunk), 0, 0, 0, 0)
}

func putSize(chunk []byte, n int) { binary.LittleEndian.PutUint32(chunk[4:], uint32(n)) }

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
}

// appendBytes writes a ByteString; nil is a null one.
func appendBytes(b, data []byte) []byte {
	if data == nil {
		return binary.LittleEndian.AppendUint32(b, 0xffffffff)
	}
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

// peerLimits is what the server can take.
type peerLimits struct {
	chunk      int // bytes
	message    int // bytes; 0: any
	chunkCount int // 0: any
}

// hello is the first message (Part 6, section 7.1.2.3).
func hello(url string) []byte {
	b := appendHeader(nil, "HEL", 'F')
	for _, n := range []uint32{0, bufferSize, bufferSize, maxMessage, maxChunks} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = appendText(b, url)
	putSize(b, len(b))
	return b
}

// acknowledge judges the server's answer.
func acknowledge(f frame) (peerLimits, error) {
	if f.kind == "ERR" {
		return peerLimits{}, serverError(f)
	}
	if f.kind != "ACK" {
		return peerLimits{}, fmt.Errorf("the server answers with %q: it does not speak OPC UA over TCP", f.kind)
	}
	r := uabin.NewReader(f.b[headerSize:])
	r.Uint32() // version
	receive, send := r.Uint32(), r.Uint32()
	message, chunks := r.Uint32(), r.Uint32()
	if err := r.Err(); err != nil {
		return peerLimits{}, fmt.Errorf("the server's acknowledge: %w", err)
	}
	if receive < minBuffer || send > bufferSize {
		return peerLimits{}, fmt.Errorf("the server wants to receive at most %d and send up to %d bytes in a chunk; the standard asks for at least %d, and no more than was offered", receive, send, minBuffer)
	}
	return peerLimits{chunk: int(min(receive, bufferSize)), message: int(min(message, 1<<30)), chunkCount: int(min(chunks, 1<<20))}, nil
}

// ServerError is what a server says before it closes the connection.
type ServerError struct {
	Code   ua.StatusCode
	Reason string
}

func (e *ServerError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("the server closed the connection: %s: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("the server closed the connection: %s", e.Code)
}

// Unwrap makes the code visible to errors.As.
func (e *ServerError) Unwrap() error { return e.Code }

func serverError(f frame) error {
	r := uabin.NewReader(f.b[headerSize:])
	e := &ServerError{Code: r.StatusCode(), Reason: r.String()}
	if r.Err() != nil {
		return errors.New("the server closed the connection without saying why")
	}
	if len(e.Reason) > 200 {
		e.Reason = e.Reason[:200]
	}
	return e
}
