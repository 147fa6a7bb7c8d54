// Package balancer is a load balancer of one backend at a time: the stable address of relays in tests, which say to which of them it leads.
//
//	b, err := balancer.New()
//	b.Through("127.0.0.1:10250")
//	defer b.Close()
//
// Connections that are open are closed when the backend changes. hil-tests/kubelet and hil-tests/metrics run on it.
package balancer

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Balancer is the relays' stable address. Its methods may be called by any goroutine.
type Balancer struct {
	l     net.Listener
	to    atomic.Value // string
	conns sync.WaitGroup
	mu    sync.Mutex
	open  map[net.Conn]bool
}

// machineAddress returns an address of this machine that is not loopback: API servers refuse to proxy to loopback.
func machineAddress() (string, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this machine has no IPv4 address but loopback")
}

// New listens at a free port of an address of this machine that is not loopback. Say Through before anybody connects.
func New() (*Balancer, error) {
	host, err := machineAddress()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	b := &Balancer{l: l, open: map[net.Conn]bool{}}
	b.conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.serve(c) })
		}
	})
	return b, nil
}

// Host is the address at which it listens.
func (b *Balancer) Host() string { return b.l.Addr().(*net.TCPAddr).IP.String() }

// Port is the port at which it listens.
func (b *Balancer) Port() int { return b.l.Addr().(*net.TCPAddr).Port }

func (b *Balancer) serve(c net.Conn) {
	defer c.Close()
	d, err := net.Dial("tcp", b.to.Load().(string))
	if err != nil {
		return
	}
	defer d.Close()
	b.mu.Lock()
	b.open[c], b.open[d] = true, true
	b.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, p := range [][2]net.Conn{{c, d}, {d, c}} {
		go func() { _, _ = io.Copy(p[0], p[1]); done <- struct{}{} }()
	}
	<-done
	_, _ = c.Close(), d.Close()
	<-done
	b.mu.Lock()
	delete(b.open, c)
	delete(b.open, d)
	b.mu.Unlock()
}

// Through sends what comes from now on to a relay, connections that are kept included.
func (b *Balancer) Through(at string) {
	b.to.Store(at)
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		_ = c.Close()
	}
}

// Close ends it, and all connections.
func (b *Balancer) Close() error {
	err := b.l.Close()
	b.Through("127.0.0.1:1")
	b.conns.Wait()
	return err
}
