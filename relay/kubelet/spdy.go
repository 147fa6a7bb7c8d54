package kubelet

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A session of exec or attach that breaks looks to its client as one that has ended well: the error stream ends without a word, and
// kubectl exits with 0 (client-go, tools/remotecommand, watchErrorStream). On a modem line sessions break, so the relay says so in the
// gateway's stead: a status on the error stream, as a runtime would send it.
const (
	spdyHeader    = 8 // bytes, of control and data frames alike (SPDY 3.1, section 2.2)
	spdyFin       = 0x01
	errorStream   = 1 // the first stream that remote command clients open
	protocolField = "X-Stream-Protocol-Version"
	lastWords     = time.Second
)

// spdyTracker follows the frames that go to a client. Safe for concurrent use.
type spdyTracker struct {
	message string

	mu     sync.Mutex
	header [spdyHeader]byte
	have   int  // bytes of header
	left   int  // bytes of the present frame's payload that are still to come
	ended  bool // the session's end has been told
	opaque bool // it is not what this understands
}

// tracks reports whether a session's end would be told by a runtime: from version 4 of the protocol on, a good one, too.
func tracks(path string, answer *http.Response) bool {
	if !strings.HasPrefix(path, "/exec/") && !strings.HasPrefix(path, "/attach/") || answer.StatusCode != http.StatusSwitchingProtocols {
		return false
	}
	version := answer.Header.Get(protocolField)
	return strings.EqualFold(answer.Header.Get("Upgrade"), "SPDY/3.1") && (version == "v4.channel.k8s.io" || version == "v5.channel.k8s.io")
}

// pass looks at bytes that were sent. s.mu is held.
func (s *spdyTracker) pass(b []byte) {
	for len(b) > 0 {
		if s.left > 0 {
			n := min(s.left, len(b))
			s.left -= n
			b = b[n:]
			continue
		}
		n := copy(s.header[s.have:], b)
		s.have += n
		b = b[n:]
		if s.have < spdyHeader {
			return
		}
		s.have = 0
		s.left = int(binary.BigEndian.Uint32(s.header[4:]) & 0xffffff)
		if id := binary.BigEndian.Uint32(s.header[:4]); id == errorStream && s.left > 0 {
			s.ended = true
		}
	}
}

// broken returns the frame that tells the client of a session that was cut off; nil if there is nothing to tell, or a frame is half sent. s.mu
// is held.
func (s *spdyTracker) broken() []byte {
	if s.ended || s.opaque || s.have > 0 || s.left > 0 {
		return nil
	}
	text, err := json.Marshal(map[string]any{
		"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "reason": "InternalError", "code": http.StatusInternalServerError,
		"message": s.message,
	})
	if err != nil {
		return nil
	}
	frame := make([]byte, spdyHeader, spdyHeader+len(text))
	binary.BigEndian.PutUint32(frame, errorStream)
	binary.BigEndian.PutUint32(frame[4:], spdyFin<<24|uint32(len(text))) //nolint:gosec // a short text
	return append(frame, text...)
}

// trackedConn is a client's connection whose session's end is told.
type trackedConn struct {
	net.Conn // a conduit.Writer's
	tracker  *spdyTracker
}

func (c *trackedConn) Write(b []byte) (int, error) {
	c.tracker.mu.Lock()
	defer c.tracker.mu.Unlock()
	n, err := c.Conn.Write(b)
	c.tracker.pass(b[:n])
	if err != nil {
		c.tracker.opaque = true
	}
	return n, err
}

// Close says what has to be said, and waits for a moment until the client has taken it: a connection that is closed with bytes unread
// takes back what was sent last.
func (c *trackedConn) Close() error {
	if c.tracker.mu.TryLock() { // else a write hangs: there is nobody to tell
		if frame := c.tracker.broken(); frame != nil {
			c.tracker.ended = true
			_ = c.Conn.SetDeadline(time.Now().Add(lastWords))
			if _, err := c.Conn.Write(frame); err == nil {
				_, _ = io.Copy(io.Discard, c.Conn)
			}
		}
		c.tracker.mu.Unlock()
	}
	return c.Conn.Close()
}

func lostText(relay, node string) string {
	return fmt.Sprintf("relay %s has lost the connection to node %s in the middle of the session; whether the command goes on there is not known", relay, node)
}
