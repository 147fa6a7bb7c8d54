package conduit

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatch: what moves lives on, what is silent ends once, after the limit and before twice of it.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Hour
		ends := make(chan time.Time, 9)
		w := NewWatch(limit, func() { ends <- time.Now() })
		for range 100 {
			time.Sleep(limit - time.Minute)
			w.Touch()
		}
		synctest.Wait()
		if len(ends) != 0 {
			t.Fatalf("it ended at %v though something moved", <-ends)
		}
		silent := time.Now()
		time.Sleep(10 * limit)
		synctest.Wait()
		if len(ends) != 1 {
			t.Fatalf("it ended %d times", len(ends))
		}
		if d := (<-ends).Sub(silent); d < limit || d > 2*limit {
			t.Errorf("it ended after %v of silence, limit %v", d, limit)
		}
		w.Touch()
		w.Stop()
	})
}

func TestStoppedWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWatch(time.Minute, func() { t.Error("it ended what is over") })
		w.Touch()
		time.Sleep(90 * time.Second) // it was looked at once, and goes on
		w.Stop()
		w.Stop()
		time.Sleep(time.Hour)
		synctest.Wait()
	})
}

// hijackable gives away one end of a pipe.
type hijackable struct {
	http.ResponseWriter
	conn net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h.conn == nil {
		return nil, nil, http.ErrNotSupported
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// TestHijacked: bytes of both directions count, and the connection's end is the context's, too.
func TestHijacked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		watch := NewWatch(limit, cancel)
		defer watch.Stop()
		here, peer := net.Pipe()
		c, _, err := (&Writer{ResponseWriter: &hijackable{httptest.NewRecorder(), here}, Ctx: ctx, Watch: watch}).Hijack()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := c.(interface{ CloseWrite() error }); ok {
			t.Error("it can be half closed")
		}
		b := make([]byte, 1)
		for i := range 20 {
			from, to := c, peer
			if i%2 == 0 {
				from, to = peer, c
			}
			go func() { _, _ = from.Write([]byte("x")) }()
			if _, err := io.ReadFull(to, b); err != nil {
				t.Fatalf("after %v: %v", time.Duration(i)*limit, err)
			}
			time.Sleep(limit - time.Second)
		}
		silent := time.Now()
		if _, err := c.Read(b); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a silent connection: %v", err)
		}
		if d := time.Since(silent); d > 2*limit || ctx.Err() == nil {
			t.Errorf("it was closed after %v of silence, context: %v", d, ctx.Err())
		}
		if _, err := peer.Read(b); !errors.Is(err, io.EOF) {
			t.Errorf("its peer: %v", err)
		}
		_ = c.Close()
	})
}

func TestWriterThatCannotHijack(t *testing.T) {
	w := &Writer{ResponseWriter: &hijackable{ResponseWriter: httptest.NewRecorder()}, Ctx: t.Context()}
	if _, _, err := w.Hijack(); !errors.Is(err, http.ErrNotSupported) {
		t.Errorf("%v", err)
	}
	if err := http.NewResponseController(&Writer{ResponseWriter: httptest.NewRecorder()}).Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
}

func TestBuffers(t *testing.T) {
	for size, want := range map[int]int{0: 32 << 10, 4 << 10: 4 << 10} {
		p := &Buffers{Size: size}
		for range 3 {
			b := p.Get()
			if len(b) != want {
				t.Fatalf("%d bytes, want %d", len(b), want)
			}
			p.Put(b)
		}
	}
}

func TestDebugLog(t *testing.T) {
	var out strings.Builder
	l := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if n, err := (DebugLog{l, "kubelet API"}).Write([]byte("TLS handshake error")); n != 19 || err != nil || !strings.Contains(out.String(), `level=DEBUG msg="kubelet API" http="TLS handshake error"`) {
		t.Errorf("%d, %v: %s", n, err, out.String())
	}
}
