package target

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"go.bug.st/serial"
)

// pipe is a port that leads to another one, and can be cut.
type pipe struct {
	at, to string
	ln     net.Listener
	work   sync.WaitGroup

	mu    sync.Mutex
	up    bool
	conns map[net.Conn]bool
}

func newPipe(ctx context.Context, at, to string) (*pipe, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("a port for %s: %w", to, err)
	}
	p := &pipe{at: ln.Addr().String(), to: to, ln: ln, up: true, conns: map[net.Conn]bool{}}
	p.work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

// serve carries one connection.
func (p *pipe) serve(c net.Conn) {
	defer p.drop(c)
	if !p.hold(c) {
		return
	}
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.drop(out)
	if !p.hold(out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { carry(out, c) })
	carry(c, out)
	both.Wait()
}

// carry copies until one side ends, and tells the other.
func carry(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		return
	}
	if t, ok := to.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

// hold notes a connection; false while the pipe is cut.
func (p *pipe) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up {
		p.conns[c] = true
	}
	return p.up
}

func (p *pipe) drop(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	_ = c.Close()
}

// set connects or cuts.
func (p *pipe) set(up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = up
	if !up {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

func (p *pipe) close() {
	p.set(false)
	_ = p.ln.Close()
	p.work.Wait()
}

// bridge joins a simulator's pseudo-terminal with the serial device at the other end of the gateway's line.
type bridge struct {
	ends [2]serial.Port
	work sync.WaitGroup
}

func newBridge(terminal, device string, baud int) (*bridge, error) {
	b := &bridge{}
	for i, path := range []string{terminal, device} {
		port, err := serial.Open(path, &serial.Mode{BaudRate: baud})
		if err != nil {
			b.close()
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		b.ends[i] = port
	}
	for i, from := range b.ends {
		b.work.Go(func() { _, _ = io.Copy(b.ends[1-i], from) }) // it ends with close, or with the device
	}
	return b, nil
}

func (b *bridge) close() {
	for _, p := range b.ends {
		if p != nil {
			_ = p.Close()
		}
	}
	b.work.Wait()
}
