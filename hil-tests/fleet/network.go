package fleet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// Condition is how an agent's network behaves.
type Condition int32

// The conditions.
const (
	Normal Condition = iota
	// Stalled: the agent reads nothing any more, as if its process were stopped; what it writes goes through.
	Stalled
	// Silent: nothing passes in either direction, and nobody is told, as behind a firewall that forgot the connection. The
	// relay's end of a socket that is closed meanwhile stays open until the condition ends. New connections wait.
	Silent
)

// Traffic counts bytes on an agent's sockets, TLS included, TCP/IP headers not.
type Traffic struct {
	In, Out int64 // everything
	// Handshake is the part of both that is TLS's: everything up to the agent's Finished, and the session ticket after it.
	Handshake int64
	Dials     int64
}

// Sub returns the traffic since o.
func (t Traffic) Sub(o Traffic) Traffic {
	return Traffic{t.In - o.In, t.Out - o.Out, t.Handshake - o.Handshake, t.Dials - o.Dials}
}

// Beyond returns the bytes beyond the TLS handshake, both directions.
func (t Traffic) Beyond() int64 { return t.In + t.Out - t.Handshake }

// network is what lies between one agent and its relay.
type network struct {
	in, out, handshake, dials atomic.Int64

	mu        sync.Mutex
	condition Condition
	changed   chan struct{} // closed when condition changes; nil while nobody waits
	open      map[*socket]struct{}
	parked    []net.Conn // closed by the agent while Silent
}

func (n *network) traffic() Traffic {
	return Traffic{In: n.in.Load(), Out: n.out.Load(), Handshake: n.handshake.Load(), Dials: n.dials.Load()}
}

func (n *network) set(c Condition) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.condition == c {
		return
	}
	was := n.condition
	n.condition = c
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
	if was == Silent {
		// What was swallowed cannot be sent again, so the connections of before are of no use.
		for s := range n.open {
			reset(s.Conn)
		}
		for _, p := range n.parked {
			reset(p)
		}
		n.parked = nil
	}
}

// now returns the condition, and what is closed when it changes.
func (n *network) now() (Condition, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.condition == Normal {
		return Normal, nil
	}
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.condition, n.changed
}

// cut resets what is open: both ends learn it at once.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.open {
		reset(s.Conn)
	}
}

// reset closes with a RST, which leaves no port behind in TIME_WAIT.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

func (n *network) dial(ctx context.Context, netw, address string) (net.Conn, error) {
	for {
		c, changed := n.now()
		if c != Silent {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
	c, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, netw, address)
	if err != nil {
		return nil, err
	}
	n.dials.Add(1)
	s := &socket{Conn: c, n: n, closed: make(chan struct{})}
	n.mu.Lock()
	if n.open == nil {
		n.open = map[*socket]struct{}{}
	}
	n.open[s] = struct{}{}
	n.mu.Unlock()
	return s, nil
}

// socket is one TCP connection of an agent.
type socket struct {
	net.Conn
	n      *network
	once   sync.Once
	closed chan struct{}
	stage  stage
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if err := s.pass(); err != nil {
		return 0, err
	}
	count, err := s.Conn.Read(p)
	if count > 0 {
		s.n.in.Add(int64(count))
		s.n.handshake.Add(s.stage.read(p[:count]))
	}
	if held := s.pass(); held != nil { // it came while nothing was to be read any more
		return 0, held
	}
	return count, err
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	if c, _ := s.n.now(); c == Silent {
		return len(p), nil
	}
	count, err := s.Conn.Write(p)
	s.n.out.Add(int64(count))
	s.n.handshake.Add(s.stage.write(count))
	return count, err
}

// pass waits until the agent may read.
func (s *socket) pass() error {
	for {
		c, changed := s.n.now()
		if c == Normal {
			return nil
		}
		select {
		case <-s.closed:
			return net.ErrClosed
		case <-changed:
		}
	}
}

// Close implements net.Conn. In a silent network the other end does not learn of it.
func (s *socket) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		s.n.mu.Lock()
		delete(s.n.open, s)
		silent := s.n.condition == Silent
		if silent {
			s.n.parked = append(s.n.parked, s.Conn)
		}
		s.n.mu.Unlock()
		if !silent {
			err = s.Conn.Close()
		}
	})
	return err
}

// stage tells the bytes of a TLS 1.3 handshake (RFC 8446) between two of crypto/tls from those after it, as seen from the
// client's socket. The client writes ClientHello, and then everything up to Finished in one write; a HelloRetryRequest does not
// occur. The server sends each message in a record of its own: ServerHello, ChangeCipherSpec, EncryptedExtensions,
// CertificateRequest, Certificate, CertificateVerify, Finished and one ticket; in a resumed session those about certificates
// are missing, and the ticket may be read before the client has written Finished.
type stage struct {
	mu      sync.Mutex
	writes  int
	header  []byte // of the record that is being read, up to 5 bytes
	left    int    // bytes of it still to come
	records int    // begun
	all     int    // records of the handshake, ticket included; 0 until it is known
}

const (
	handshakeWrites = 2
	recordsFull     = 8
	recordsResumed  = 5
)

// write returns how many of n bytes belong to the handshake.
func (s *stage) write(n int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes++; s.writes > handshakeWrites {
		return 0
	}
	if s.writes == handshakeWrites {
		if s.all = recordsResumed; s.records > recordsResumed {
			s.all = recordsFull
		}
	}
	return int64(n)
}

// read returns how many of the bytes belong to the handshake.
func (s *stage) read(p []byte) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 && (s.all == 0 || s.records <= s.all) {
		if s.left == 0 && len(s.header) == 0 {
			s.records++
		}
		take := 1
		if len(s.header) < 5 {
			if s.header = append(s.header, p[0]); len(s.header) == 5 {
				s.left = int(s.header[3])<<8 | int(s.header[4])
			}
		} else {
			take = min(s.left, len(p))
			s.left -= take
		}
		if len(s.header) == 5 && s.left == 0 {
			s.header = s.header[:0]
		}
		if s.all == 0 || s.records <= s.all {
			n += int64(take)
		}
		p = p[take:]
	}
	return n
}
