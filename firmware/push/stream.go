package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// stream is a TCP or TLS connection that is opened with the first batch and used by one goroutine.
type stream struct {
	host   string // host:port
	secure *tls.Config
	conn   net.Conn
	r      *bufio.Reader
}

// newStream prepares a connection. secure are the schemes that mean TLS.
func newStream(e endpoint, c credential, secure ...string) (*stream, error) {
	u, err := url.Parse(e.address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", e.address, err)
	}
	s := &stream{host: u.Host}
	for _, scheme := range secure {
		if u.Scheme == scheme {
			if s.secure, err = c.tls(e.address); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// open connects, if that is not done, and has all that follows end with ctx. begun tells that the connection is new; release ends the watch of ctx.
func (s *stream) open(ctx context.Context) (begun bool, release func(), err error) {
	if s.conn == nil {
		var conn net.Conn
		if s.secure != nil {
			conn, err = (&tls.Dialer{Config: s.secure}).DialContext(ctx, "tcp", s.host)
		} else {
			conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", s.host)
		}
		if err != nil {
			return false, nil, err
		}
		s.conn, s.r, begun = conn, bufio.NewReaderSize(conn, 4096), true
	}
	conn := s.conn
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return begun, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed connection has ended already
	return begun, func() { stop() }, nil
}

func (s *stream) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// bare gives an address without a scheme the one that is meant.
func bare(text, scheme string) string {
	if text == "" || strings.Contains(text, "://") {
		return text
	}
	return scheme + "://" + text
}
