//go:build integration

package autonomy_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// gate is the gateway's network: TCP connections to the relay pass through it while it is open.
type gate struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, to: to, conns: map[net.Conn]bool{}}
	g.all.Go(g.accept)
	t.Cleanup(func() {
		_ = l.Close()
		g.set(true)
		g.all.Wait()
	})
	return g
}

func (g *gate) accept() {
	for {
		c, err := g.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", g.to)
		g.mu.Lock()
		refused := err != nil || g.shut
		if !refused {
			g.conns[c], g.conns[up] = true, true
		}
		g.mu.Unlock()
		if refused {
			_ = c.Close()
			if up != nil {
				_ = up.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{c, up}, {up, c}} {
			g.all.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
				_ = pair[1].Close()
				g.mu.Lock()
				delete(g.conns, pair[0])
				g.mu.Unlock()
			})
		}
	}
}

// set shuts the gate, and ends what passes, or opens it.
func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for c := range g.conns {
			_ = c.Close()
		}
	}
}
