package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/proxy/proxytest"
)

func parse(t *testing.T, s string) *Dialer {
	t.Helper()
	d, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serve accepts on host until the test ends.
func serve(t *testing.T, host string, each func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("%v: these tests need IPv4 and IPv6 on the loopback interface", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			each(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestThrough(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for user, authorization := range map[string]string{"": "", "gw:p%40ss@": "Basic Z3c6cEBzcw=="} {
			t.Run(host+" "+user, func(t *testing.T) {
				echo := serve(t, host, func(c net.Conn) {
					defer c.Close()
					line, _ := bufio.NewReader(c).ReadString('\n')
					_, _ = io.WriteString(c, "echo "+line)
				})
				p := proxytest.Start(t, host, authorization)
				d := parse(t, "http://"+user+p.Address())
				if d.Address() != p.Address() {
					t.Errorf("the proxy is %s, not %s", p.Address(), d.Address())
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				c, err := d.DialContext(ctx, "tcp", echo)
				cancel() // the connection must not depend on the context of the dial
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, "hello\n"); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); string(got) != "echo hello\n" || err != nil {
					t.Errorf("read %q, %v", got, err)
				}
				if p.Passed() != 1 {
					t.Errorf("the proxy let %d connections through", p.Passed())
				}
			})
		}
	}
}

// TestErrors has each proxy that a technician may meet. No message may hold the password.
func TestErrors(t *testing.T) {
	says := func(answer string) string {
		return serve(t, "127.0.0.1", func(c net.Conn) {
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, answer)
				}
			}()
		})
	}
	closed := serve(t, "127.0.0.1", func(net.Conn) {})
	gone, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	hang := serve(t, "127.0.0.1", func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) })
	for name, c := range map[string]struct{ proxy, want string }{
		"no password":       {"http://" + proxytest.Start(t, "127.0.0.1", "Basic x").Address(), "set relay.proxy to http://USER:PASSWORD@"},
		"wrong password":    {"http://gw:geheim@" + proxytest.Start(t, "127.0.0.1", "Basic x").Address(), "does not accept the user and password"},
		"not allowed":       {"http://gw:geheim@" + says("HTTP/1.1 403 Forbidden\r\n\r\n"), "does not let this gateway through to relay.invalid:7443"},
		"no relay":          {"http://gw:geheim@" + proxytest.Start(t, "127.0.0.1", "").Address(), "cannot reach relay.invalid:7443"},
		"other status":      {"http://" + says("HTTP/1.1 302 Found\r\n\r\n"), "HTTP 302"},
		"hangs":             {"http://gw:geheim@" + hang, "takes the connection and does not answer"},
		"closes":            {"http://" + says(""), "closes the connection"},
		"not a proxy":       {"http://" + says("SSH-2.0-OpenSSH_9.2\r\n"), "does not answer as an HTTP proxy does"},
		"endless":           {"http://" + says("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)), "does not answer as an HTTP proxy"},
		"talks first":       {"http://" + says("HTTP/1.1 200 OK\r\n\r\nhello"), "sends bytes before the relay"},
		"nobody there":      {"http://gw:geheim@" + gone.Addr().String(), "cannot be reached (connection refused)"},
		"accepts and stops": {"http://" + closed, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 10 * time.Second
			if name == "hangs" || name == "accepts and stops" {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			conn, err := parse(t, c.proxy).DialContext(ctx, "tcp", "relay.invalid:7443")
			if err == nil {
				_ = conn.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") || len(err.Error()) > 500 {
				t.Errorf("error is %q, want one with %q", err, c.want)
			}
			if ctx.Err() != nil {
				t.Error("the caller's own time was used up before it heard of the proxy")
			}
		})
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"proxy:3128":                "another scheme",
		"https://proxy:3128":        "another scheme",
		"socks5://proxy:3128":       "another scheme",
		"http://proxy":              "lacks a host or a port",
		"http://:3128":              "lacks a host or a port",
		"http://proxy:0":            "lacks a host or a port",
		"http://proxy:99999":        "lacks a host or a port",
		"http://proxy:3128/x":       "more than host and port",
		"http://proxy:3128?x=1":     "more than host and port",
		"http://u:geheim@proxy:x":   "not a URL",
		"http://u:geheim%@proxy:80": "not a URL",
		"":                          "another scheme",
	} {
		if _, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: %v, want an error with %q", s, err, want)
		}
	}
	for _, s := range []string{"http://proxy:3128", "http://proxy:3128/", "http://[2001:db8::7]:3128", "http://u:p%2F%40@192.0.2.7:1"} {
		if _, err := Parse(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
}
