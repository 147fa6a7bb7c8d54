package socket

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Opcodes, RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	final   = 0x80
	masked  = 0x80
	maxCtrl = 125
)

// Status codes of close frames, RFC 6455, section 7.4.1.
const (
	StatusNormal   = 1000
	StatusProtocol = 1002
)

// CloseError says that the peer has closed the connection with a close frame.
type CloseError struct {
	Code   int // 1005 if the frame named none
	Reason string
}

// Error implements error.
func (e *CloseError) Error() string {
	return fmt.Sprintf("closed by the peer: %d %q", e.Code, e.Reason)
}

// headroom is what Begin leaves free: the longest header of a frame that a server sends.
const headroom = 10

// Begin makes room for a frame's header at the end of b. The message is to be appended behind it, then End is called.
func Begin(b []byte) []byte { return append(b, make([]byte, headroom)...) }

// End makes a binary frame of what was appended to b since Begin was called when b had start bytes.
func End(b []byte, start int) []byte { return end(b, start, opBinary) }

func end(b []byte, start int, op byte) []byte {
	n := len(b) - start - headroom
	var head [headroom]byte
	head[0] = final | op
	size := 2
	switch {
	case n <= maxCtrl:
		head[1] = byte(n)
	case n < 1<<16:
		head[1], size = 126, 4
		binary.BigEndian.PutUint16(head[2:], uint16(n))
	default:
		head[1], size = 127, 10
		binary.BigEndian.PutUint64(head[2:], uint64(n))
	}
	copy(b[start:], head[:size])
	copy(b[start+size:], b[start+headroom:])
	return b[:start+size+n]
}

// record is what TLS sends with one system call, bytes (RFC 8446, section 5.1).
const record = 16 << 10

// Write sends frames made by Begin and End. After an error the connection is of no use.
func (c *Conn) Write(frames []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	defer c.writing.Store(0)
	for len(frames) > 0 {
		n := min(len(frames), record)
		c.writing.Store(time.Now().UnixNano())
		if _, err := c.nc.Write(frames[:n]); err != nil {
			return err
		}
		frames = frames[n:]
	}
	return nil
}

// Close sends a close frame, once. The peer answers with one of its own, which Read returns as a *CloseError; the owner of the
// Conn says how long it waits for that.
func (c *Conn) Close(code int, reason string) error {
	if c.closing.Swap(true) {
		return nil
	}
	reason = reason[:min(len(reason), maxCtrl-2)]
	b := Begin(nil)
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return c.Write(end(append(b, reason...), 0, opClose))
}
