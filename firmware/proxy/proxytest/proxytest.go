// Package proxytest is an HTTP proxy for tests: it knows CONNECT and nothing else, and asks for a password if it is given
// one.
//
// Usage: Start on a loopback address; the proxy ends with the test. Its methods are safe for concurrent use.
package proxytest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy is a running proxy.
type Proxy struct {
	Authorization string // the only Proxy-Authorization that it takes; empty: any, and none
	listener      net.Listener
	passed        atomic.Int64
	wg            sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

// Start runs a proxy on host, an IP address, until the test ends.
func Start(t testing.TB, host, authorization string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("no proxy on %s: %v: these tests need IPv4 and IPv6 on the loopback interface", host, err)
	}
	p := &Proxy{Authorization: authorization, listener: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

// Address is the proxy's HOST:PORT.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Passed is how many connections were let through.
func (p *Proxy) Passed() int64 { return p.passed.Load() }

func (p *Proxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.ended = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// keep notes a connection that stop has to close.
func (p *Proxy) keep(c net.Conn) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.conns[c] = struct{}{}
	}
	return !p.ended
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() {
			defer p.drop(c)
			if p.keep(c) {
				p.serve(c)
			}
		})
	}
}

func (p *Proxy) serve(client net.Conn) {
	r := bufio.NewReader(client)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	answer := func(status string) { _, _ = io.WriteString(client, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n") }
	switch {
	case req.Method != http.MethodConnect:
		answer("405 Method Not Allowed")
		return
	case p.Authorization != "" && req.Header.Get("Proxy-Authorization") != p.Authorization:
		answer("407 Proxy Authentication Required")
		return
	}
	relay, err := new(net.Dialer).DialContext(context.Background(), "tcp", req.Host)
	if err != nil {
		answer("502 Bad Gateway")
		return
	}
	defer p.drop(relay)
	if !p.keep(relay) {
		return
	}
	p.passed.Add(1)
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	p.wg.Go(func() {
		_, _ = io.Copy(relay, r)
		_ = relay.Close()
	})
	_, _ = io.Copy(client, relay)
	_ = client.Close()
}
