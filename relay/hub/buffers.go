package hub

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
)

// sessionBuffer is the size of a session's buffers for reading and writing, bytes. net/http's have 4 KiB each, for as long as the
// connection lives; frames of an idle session have some ten bytes, larger ones pass both buffers by.
const sessionBuffer = 512

// smallBuffers is a ResponseWriter whose hijacked connection has buffers of sessionBuffer bytes.
type smallBuffers struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (w smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// What the agent sent behind its request has been read already: it stays buffered.
	ahead, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err == nil {
		rw.Reader = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(ahead)), conn), max(sessionBuffer, len(ahead)))
		_, err = rw.Reader.Peek(len(ahead))
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("read what came with the request: %w", err)
	}
	return conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(conn, sessionBuffer)), nil
}

// Unwrap lets http.ResponseController find the rest.
func (w smallBuffers) Unwrap() http.ResponseWriter { return w.ResponseWriter }
