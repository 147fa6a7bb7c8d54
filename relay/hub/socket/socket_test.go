package socket

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/skerry/skerry/relay/hub/hubtest"
)

const limit = 1 << 20

// serve starts a TLS server that hands each accepted connection to fn.
func serve(t *testing.T, fn func(*Conn)) (url string, client *http.Client) {
	t.Helper()
	pki := hubtest.NewPKI(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Skerry-Relay", "relay-a")
		c, err := Accept(w, r, "skerry.v1", limit)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		fn(c)
	}))
	srv.TLS = pki.ServerTLS()
	srv.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cfg, err := pki.ClientTLS(pki.Node("gw-1"))()
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return "wss://" + srv.Listener.Addr().String(), &http.Client{Transport: tr}
}

func dial(t *testing.T, url string, client *http.Client) *websocket.Conn {
	t.Helper()
	ws, resp, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"skerry.v1"}}) //nolint:bodyclose // Dial closes it
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(2 * limit)
	if resp.Header.Get("Skerry-Relay") != "relay-a" {
		t.Errorf("the answer's header is %v", resp.Header)
	}
	return ws
}

// TestEcho speaks with an independent client: messages of all lengths that have headers of their own.
func TestEcho(t *testing.T) {
	ended := make(chan error, 1)
	url, client := serve(t, func(c *Conn) {
		c.Release()
		buf := make([]byte, 0, 512)
		for {
			if err := c.Wait(); err != nil {
				ended <- err
				return
			}
			b, err := c.Read(buf[:0], nil)
			if err != nil {
				ended <- err
				return
			}
			// Two frames in one write.
			out := End(append(Begin(nil), b...), 0)
			n := len(out)
			out = End(append(Begin(out), "and one more"...), n)
			if err := c.Write(out); err != nil {
				ended <- err
				return
			}
		}
	})
	ws := dial(t, url, client)
	defer func() { _ = ws.CloseNow() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range []int{0, 1, 7, 8, 125, 126, 511, 4096, 65535, 65536, 300_000, limit} {
		sent := bytes.Repeat([]byte{byte(n), 1, 2}, n/3+1)[:n]
		if err := ws.Write(ctx, websocket.MessageBinary, sent); err != nil {
			t.Fatal(err)
		}
		for _, want := range [][]byte{sent, []byte("and one more")} {
			typ, got, err := ws.Read(ctx)
			if err != nil || typ != websocket.MessageBinary || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: %v %d bytes, %v", n, typ, len(got), err)
			}
		}
	}
	if err := ws.Close(websocket.StatusGoingAway, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
	var ce *CloseError
	if err := <-ended; !errors.As(err, &ce) || ce.Code != 1001 || ce.Reason != "bye" {
		t.Errorf("the server ends with %v", err)
	}
}

// TestClose begins the closing handshake on the server's side.
func TestClose(t *testing.T) {
	ended := make(chan error, 1)
	url, client := serve(t, func(c *Conn) {
		if err := c.Close(StatusNormal, strings.Repeat("x", 200)); err != nil {
			t.Error(err)
		}
		_ = c.Close(StatusProtocol, "a second one is not sent")
		_, err := c.Read(nil, nil)
		ended <- err
	})
	ws := dial(t, url, client)
	defer func() { _ = ws.CloseNow() }()
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the client reads %v", err)
	}
	var ce *CloseError
	if err := <-ended; !errors.As(err, &ce) || ce.Code != StatusNormal {
		t.Errorf("the server ends with %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	ended := make(chan error, 1)
	url, client := serve(t, func(c *Conn) {
		_, err := c.Read(nil, nil)
		ended <- err
		if err := c.Close(StatusProtocol, "too large"); err != nil {
			t.Error(err)
		}
		c.Discard()
	})
	ws := dial(t, url, client)
	defer func() { _ = ws.CloseNow() }()
	_ = ws.Write(t.Context(), websocket.MessageBinary, make([]byte, limit+1))
	if err := <-ended; !errors.Is(err, ErrTooBig) {
		t.Errorf("the server ends with %v", err)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusProtocolError {
		t.Errorf("the client reads %v", err)
	}
}

// TestReleaseFindsItsFields fails when a release of Go has other fields: see Release.
func TestReleaseFindsItsFields(t *testing.T) {
	done := make(chan struct{})
	url, client := serve(t, func(c *Conn) {
		defer close(done)
		conn := c.nc.(*tls.Conn)
		if len(conn.ConnectionState().PeerCertificates) == 0 {
			t.Error("the client has no certificate")
		}
		c.Release()
		cs := conn.ConnectionState()
		if c.raw == nil || field[bytes.Buffer](conn, "hand") == nil || len(cs.PeerCertificates) != 0 || len(cs.VerifiedChains) != 0 {
			t.Error("crypto/tls has changed: Release has to be adapted, agents cost 8 KB more")
		}
		if c.raw.Cap() != 0 {
			t.Errorf("the input buffer has %d bytes", c.raw.Cap())
		}
		for range 2 {
			if err := c.Wait(); err != nil {
				t.Error(err)
			}
			before := c.raw.Cap()
			if b, err := c.Read(nil, nil); err != nil || len(b) != 20_000 && len(b) != 3 {
				t.Errorf("%d bytes, %v", len(b), err)
			} else if len(b) == 3 && before > keptInput {
				t.Errorf("the input buffer keeps %d bytes", before)
			}
			if err := c.Write(End(Begin(nil), 0)); err != nil {
				t.Error(err)
			}
		}
	})
	ws := dial(t, url, client)
	defer func() { _ = ws.CloseNow() }()
	for _, n := range []int{20_000, 3} {
		if err := ws.Write(t.Context(), websocket.MessageBinary, make([]byte, n)); err != nil {
			t.Error(err)
		}
		if _, _, err := ws.Read(t.Context()); err != nil {
			t.Error(err)
		}
	}
	<-done
}

// TestDeclaredLength: a length that is only said costs next to nothing.
func TestDeclaredLength(t *testing.T) {
	frame := []byte{final | opBinary, masked | 127, 0, 0, 0, 0, 0, 0x0f, 0, 0, 1, 2, 3, 4, 'x'}
	b, err := newConn(&canned{in: frame}, nil, limit).Read(nil, nil)
	if !errors.Is(err, io.EOF) || cap(b) > 2*first {
		t.Errorf("%d bytes were taken for a length that was only declared; %v", cap(b), err)
	}
}

func TestMalformed(t *testing.T) {
	mask := []byte{0, 0, 0, 0}
	frame := func(b0, b1 byte, payload ...byte) []byte {
		return append(append([]byte{b0, b1 | masked}, mask...), payload...)
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"reserved bits":              {frame(final|0x40|opBinary, 0), ErrProtocol},
		"not masked":                 {[]byte{final | opBinary, 0}, ErrProtocol},
		"continuation of nothing":    {frame(final|opContinuation, 0), ErrProtocol},
		"message inside a message":   {append(frame(opBinary, 1, 'x'), frame(final|opBinary, 0)...), ErrProtocol},
		"opcode 3":                   {frame(final|3, 0), ErrProtocol},
		"opcode 11":                  {frame(final|11, 0), ErrProtocol},
		"fragmented ping":            {frame(opPing, 0), ErrProtocol},
		"ping":                       {frame(final|opPing, 0), ErrProtocol},
		"pong within a message":      {append(frame(opBinary, 1, 'x'), frame(final|opPong, 0)...), ErrProtocol},
		"text":                       {frame(final|opText, 0), ErrProtocol},
		"fragments without end":      {append(frame(opBinary, 0), bytes.Repeat(frame(opContinuation, 0), maxFragments+1)...), ErrProtocol},
		"close of one byte":          {frame(final|opClose, 1, 3), ErrProtocol},
		"length beyond 63 bits":      {append([]byte{final | opBinary, masked | 127}, bytes.Repeat([]byte{0xff}, 12)...), ErrTooBig},
		"fragments beyond the limit": {append(frame(opBinary, 1, 'x'), append([]byte{final, masked | 127}, append(binary.BigEndian.AppendUint64(nil, limit), mask...)...)...), ErrTooBig},
		"the end":                    {frame(final|opBinary, 2, 'x'), io.EOF},
	} {
		if _, err := newConn(&canned{in: c.in}, nil, limit).Read(nil, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	whole := append(frame(opBinary, 2, 'a', 'b'), frame(opContinuation, 0)...)
	whole = append(whole, frame(final|opContinuation, 1, 'c')...)
	if b, err := newConn(&canned{in: whole[5:]}, whole[:5], limit).Read([]byte("x"), nil); err != nil || string(b) != "xabc" {
		t.Errorf("fragments: %q, %v", b, err)
	}
}

func TestRefused(t *testing.T) {
	good := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Protocol": {"other, skerry.v1"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = good
	if _, err := check(r, "skerry.v1"); err != nil {
		t.Error(err)
	}
	for field, value := range map[string]string{
		"Connection": "close", "Upgrade": "h2c", "Sec-Websocket-Version": "8", "Sec-Websocket-Protocol": "skerry.v2", "Sec-Websocket-Key": "short", "Origin": "https://example.org",
	} {
		r.Header = good.Clone()
		r.Header.Set(field, value)
		w := httptest.NewRecorder()
		if _, err := Accept(w, r, "skerry.v1", limit); err == nil || w.Code != http.StatusBadRequest {
			t.Errorf("%s: %s was taken: %d", field, value, w.Code)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{final | opBinary, masked | 1, 1, 2, 3, 4, 5})
	f.Add([]byte{opText, masked | 126, 0, 1, 1, 2, 3, 4, 5, final | opPing, masked, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		c := newConn(&canned{in: in}, nil, 1000)
		for range 100 {
			b, err := c.Read(nil, nil)
			if len(b) > 1000 || cap(b) > 3*first {
				t.Fatalf("%d bytes, %d taken", len(b), cap(b))
			}
			if err != nil {
				return
			}
		}
	})
}

// canned is a peer that has said everything already.
type canned struct {
	net.Conn
	in, out []byte
}

func (c *canned) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *canned) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	return len(p), nil
}
