package hub

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSmallBuffersKeepWhatWasReadAhead: an agent may send its first frame right behind the request.
func TestSmallBuffersKeepWhatWasReadAhead(t *testing.T) {
	for name, ahead := range map[string]string{"nothing": "", "a frame": "hello", "more than the buffer": strings.Repeat("x", 3*sessionBuffer)} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := (&smallBuffers{ResponseWriter: w, limit: 1 << 20}).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if rw.Writer.Size() != sessionBuffer || rw.Reader.Size() < sessionBuffer {
					t.Errorf("the buffers have %d and %d bytes", rw.Reader.Size(), rw.Writer.Size())
				}
				if want := min(len(ahead), rw.Reader.Size()); rw.Reader.Buffered() < want {
					t.Errorf("%d bytes are buffered, %d came with the request", rw.Reader.Buffered(), want)
				}
				b := make([]byte, len(ahead)+len("later"))
				if _, err := io.ReadFull(rw, b); err != nil {
					t.Error(err)
				}
				got <- string(b)
			}))
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			w := bufio.NewWriter(conn)
			_, _ = w.WriteString("GET / HTTP/1.1\r\nHost: x\r\n\r\n" + ahead)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("later")); err != nil {
				t.Fatal(err)
			}
			if b := <-got; b != ahead+"later" {
				t.Errorf("%d bytes arrive, want %d", len(b), len(ahead)+5)
			}
		})
	}
}
