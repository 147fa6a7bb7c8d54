package hub

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// sessionBuffer is the size of a session's buffers for reading and writing, bytes. net/http's have 4 KiB each, for as long as the
// connection lives; frames of an idle session have some ten bytes, larger ones pass both buffers by.
const sessionBuffer = 512

// overheadAllowed is what WebSocket's frames may add to a message of twice the largest size, bytes.
const overheadAllowed = 64 << 10

// smallBuffers is a ResponseWriter whose hijacked connection has buffers of sessionBuffer bytes, and is watched.
type smallBuffers struct {
	http.ResponseWriter
	limit int64    // of a message, bytes
	conn  *watched // set by Hijack
}

// watched is a connection that ends when far more bytes have come than the message that they belong to could have: fragments without
// content, say, of which a message may have any number.
type watched struct {
	net.Conn
	since, limit int64 // bytes read since the last whole message; for the goroutine that reads
}

var errOverhead = errors.New("the bytes received since the last message are far more than a message can have")

// Read implements net.Conn.
func (c *watched) Read(b []byte) (int, error) {
	if c.since > c.limit {
		return 0, errOverhead
	}
	n, err := c.Conn.Read(b)
	c.since += int64(n)
	return n, err
}

// Hijack implements http.Hijacker.
func (w *smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
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
	w.conn = &watched{Conn: conn, limit: 2*w.limit + overheadAllowed}
	return w.conn, bufio.NewReadWriter(rw.Reader, bufio.NewWriterSize(w.conn, sessionBuffer)), nil
}

// Unwrap lets http.ResponseController find the rest.
func (w *smallBuffers) Unwrap() http.ResponseWriter { return w.ResponseWriter }
