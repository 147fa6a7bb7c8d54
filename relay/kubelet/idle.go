package kubelet

import (
	"bufio"
	"net"

	"github.com/skerry/skerry/firmware/wire/conduit"
)

// watchedWriter tells of what an answer writes, too: a log that is followed is one answer that goes on for days. The end of a session
// on the connection that it hands out is told.
type watchedWriter struct {
	conduit.Writer
	tracker *spdyTracker // nil: the session's end is not told
}

func (h *watchedWriter) Write(b []byte) (int, error) {
	n, err := h.Writer.Write(b)
	if n > 0 {
		h.Watch.Touch()
	}
	return n, err
}

// Hijack is for httputil.ReverseProxy.
func (h *watchedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := h.Writer.Hijack()
	if err != nil || h.tracker == nil {
		return c, rw, err
	}
	return &trackedConn{c, h.tracker}, rw, nil
}
