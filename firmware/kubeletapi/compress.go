package kubeletapi

import (
	"compress/gzip"
	"net/http"
	"strings"
	"sync"
)

// compressor is there once: one costs 0.8 MB while it works. Whoever finds it taken is answered without.
type compressor struct{ mu sync.Mutex }

// serve makes an answer compressed if the caller takes that, because metrics are ten times as long as they need be, and the
// line to a gateway may be paid for by the byte.
func (c *compressor) serve(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if !takesGzip(r.Header.Values("Accept-Encoding")) || !c.mu.TryLock() {
		serve(w, r)
		return
	}
	defer c.mu.Unlock()
	z := &gzipWriter{ResponseWriter: w}
	serve(z, r)
	if z.gz != nil {
		_ = z.gz.Close() // its error is the connection's
	}
}

// takesGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func takesGzip(accept []string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(strings.ReplaceAll(item, " ", ""), ";")
			if strings.EqualFold(name, "gzip") {
				return strings.Trim(strings.TrimPrefix(strings.ToLower(weight), "q="), "0.") != "" || weight == ""
			}
		}
	}
	return false
}

// gzipWriter compresses what is answered with status 200; the rest is for people.
type gzipWriter struct {
	http.ResponseWriter
	gz    *gzip.Writer
	begun bool
}

func (z *gzipWriter) WriteHeader(status int) {
	if !z.begun {
		z.begun = true
		if status == http.StatusOK {
			z.Header().Set("Content-Encoding", "gzip")
			z.gz, _ = gzip.NewWriterLevel(z.ResponseWriter, gzip.BestSpeed) // the level is one that there is
		}
	}
	z.ResponseWriter.WriteHeader(status)
}

func (z *gzipWriter) Write(b []byte) (int, error) {
	if !z.begun {
		z.WriteHeader(http.StatusOK)
	}
	if z.gz == nil {
		return z.ResponseWriter.Write(b)
	}
	return z.gz.Write(b)
}
