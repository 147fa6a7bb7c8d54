package kubeletapi

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// bundleTime is how long a bundle may take to be made and read. The relay waits a little longer.
const bundleTime = 110 * time.Second

// serveBundle answers with the gateway's diagnostic bundle. One is made at a time: each takes some memory, and some of the line.
func (s *Server) serveBundle(w http.ResponseWriter, r *http.Request) {
	if s.o.Diagnose == nil {
		http.NotFound(w, r)
		return
	}
	select {
	case s.bundling <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, fmt.Sprintf("node %s makes a diagnostic bundle for somebody else already: try again in a minute", s.o.Node), http.StatusServiceUnavailable)
		return
	}
	defer func() { <-s.bundling }()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bundleTime))
	s.log.Info("a diagnostic bundle is made for the cluster")
	w.Header().Set("Content-Type", "application/gzip")
	if err := s.o.Diagnose(r.Context(), w); err != nil {
		s.log.Warn("a diagnostic bundle was cut off", slog.Any("error", err))
		panic(http.ErrAbortHandler) // so that nobody takes a part for the whole
	}
}
