package socket

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one WebSocket; see the package's comment for who may call what.
type Conn struct {
	nc    net.Conn
	ahead []byte // read by net/http behind the request; nil once it is consumed
	limit int    // largest message that is read, bytes

	head [14]byte // header of the frame that is being read
	have uint8    // bytes of it that Wait has read

	raw *bytes.Buffer // crypto/tls's input buffer, if Release found it

	write   sync.Mutex   // frames go out whole
	writing atomic.Int64 // Unix time in ns at which the Write under way last got on, 0 if none is
	closing atomic.Bool  // a close frame has been sent, or is being sent
}

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// WritingSince returns when the Write that is under way last got on (a slow peer takes 16 KiB at a time), or the zero time.
func (c *Conn) WritingSince() time.Time {
	if at := c.writing.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// CloseNow closes the connection without a word. It does not block: (*tls.Conn).Close would wait for a peer that does not read
// its alert.
func (c *Conn) CloseNow() error {
	if t, ok := c.nc.(*tls.Conn); ok {
		return t.NetConn().Close()
	}
	return c.nc.Close()
}
