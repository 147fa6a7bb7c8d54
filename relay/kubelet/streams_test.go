package kubelet

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// upgrade opens a stream to the agent's echo.
func (w *world) upgrade(a ask) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	c, err := tls.Dial("tcp", w.at(a), w.config(a))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	fmt.Fprint(c, "POST /exec/default/web/main?command=sh HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nWant-Protocol: "+a.header["Want-Protocol"]+"\r\nContent-Length: 0\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		w.t.Fatalf("%v %v", resp, err)
	}
	return c, in
}

func echo(c net.Conn, in *bufio.Reader, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

func (w *world) idle(r *testRelay) bool { return r.srv.meter.open.Load() == 0 }

// TestStreams: bytes go both ways through one relay and through two, and each end of a stream ends all of it.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	for _, name := range []string{"a", "b"} {
		c, in := w.upgrade(ask{relay: name, cert: api})
		for i := range 20 {
			if err := echo(c, in, strings.Repeat(fmt.Sprint(i), 5000)); err != nil {
				t.Fatal(name, err)
			}
		}
		_ = c.Close()
		w.until("over when the client is gone", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })

		c, in = w.upgrade(ask{relay: name, cert: api})
		w.mu.Lock()
		_ = w.sessions[len(w.sessions)-1].Close()
		w.mu.Unlock()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("through %s: the agent is gone, and the client hears %v", name, err)
		}
		w.until("over when the agent is gone", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })
	}
	c, in := w.upgrade(ask{relay: "b", cert: api})
	w.relays["a"].stop() // in the middle
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("relay a is gone, and the client hears %v", err)
	}
	w.until("over when a relay is gone", func() bool { return w.idle(w.relays["b"]) })
}

// TestIdleStreamEnds: a client that hangs with its connection open is let go.
func TestIdleStreamEnds(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Idle = 100 * time.Millisecond })
	c, in := w.upgrade(ask{relay: "b", cert: w.cluster.named("apiserver")})
	if err := echo(c, in, "hello"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client hears %v", err)
	}
	w.until("over", func() bool { return w.idle(w.relays["a"]) && w.idle(w.relays["b"]) })
}

// TestBrokenSessionIsTold: kubectl takes a session that ends without a word for one that ended well.
func TestBrokenSessionIsTold(t *testing.T) {
	w := newWorld(t)
	api := w.cluster.named("apiserver")
	whole := string([]byte{0, 0, 0, 3, 0, 0, 0, 5}) + "hello" // a data frame of stdout
	told := string([]byte{0, 0, 0, 1, 1, 0, 0, 2}) + "{}"     // the runtime's own status
	for _, relay := range []string{"a", "b"} {
		for what, c := range map[string]struct {
			protocol, sent string
			want           bool
		}{
			"in the middle":                        {"v4.channel.k8s.io", whole, true},
			"before anything":                      {"v5.channel.k8s.io", "", true},
			"after the end":                        {"v4.channel.k8s.io", whole + told, false},
			"within a frame":                       {"v4.channel.k8s.io", whole[:10], false},
			"within a frame's head":                {"v4.channel.k8s.io", whole + "\x00", false},
			"of a protocol that tells errors only": {"v2.channel.k8s.io", whole, false},
		} {
			conn, in := w.upgrade(ask{relay: relay, cert: api, header: map[string]string{"Want-Protocol": c.protocol}})
			if err := echo(conn, in, c.sent); err != nil {
				t.Fatal(relay, what, err)
			}
			w.mu.Lock()
			_ = w.sessions[len(w.sessions)-1].Close()
			w.mu.Unlock()
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			rest, _ := io.ReadAll(in)
			_ = conn.Close()
			if got := len(rest) > 8 && rest[3] == errorStream && rest[4] == spdyFin && int(rest[7]) == (len(rest)-8)%256 && strings.Contains(string(rest), `"status":"Failure"`) &&
				strings.Count(string(rest), "has lost the connection to node gw-1") == 1; got != c.want || !c.want && len(rest) > 0 {
				t.Errorf("through %s, %s: %q", relay, what, rest)
			}
		}
	}
}
