//go:build integration

package relays

import (
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

// gate stands between one relay and the API server. While it is shut nothing passes, and nobody is told: what was sent before
// arrives when it opens, late.
type gate struct {
	listener net.Listener
	upstream string

	mu    sync.Mutex
	open  chan struct{} // closed while the gate is open
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

// newGate returns an open gate and a kubeconfig that leads through it.
func newGate(t *testing.T, kubeconfig string) (*gate, string) {
	t.Helper()
	doc, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{open: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(g.open)
	if g.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Clusters {
		u, err := url.Parse(c.Server)
		if err != nil {
			t.Fatal(err)
		}
		g.upstream = u.Host
		u.Host = g.listener.Addr().String()
		c.Server = u.String()
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*doc, path); err != nil {
		t.Fatal(err)
	}
	g.all.Go(g.accept)
	t.Cleanup(g.close)
	return g, path
}

func (g *gate) accept() {
	for {
		c, err := g.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", g.upstream)
		if err != nil {
			c.Close()
			continue
		}
		g.mu.Lock()
		g.conns[c], g.conns[up] = struct{}{}, struct{}{}
		g.mu.Unlock()
		g.all.Go(func() { g.carry(up, c) })
		g.all.Go(func() { g.carry(c, up) })
	}
}

func (g *gate) carry(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-g.passage()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (g *gate) passage() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// Shut holds everything back.
func (g *gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// Open lets everything pass that waits, and what comes.
func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) close() {
	g.Open()
	g.listener.Close()
	g.mu.Lock()
	for c := range g.conns {
		c.Close()
	}
	g.mu.Unlock()
	g.all.Wait()
}
