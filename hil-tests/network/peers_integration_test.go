//go:build integration && networking

package network_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// forwarder is the way to the API server, which may be cut.
type forwarder struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func forward(t *testing.T, at, to string) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{listener: l, to: to, conns: map[net.Conn]bool{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.carry(c) })
		}
	})
	t.Cleanup(func() { l.Close(); f.cut(); f.wg.Wait() })
	return f
}

func (f *forwarder) carry(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer out.Close()
	f.mu.Lock()
	if f.off {
		f.mu.Unlock()
		return
	}
	f.conns[in], f.conns[out] = true, true
	f.mu.Unlock()
	f.wg.Go(func() { io.Copy(out, in); out.Close(); in.Close() }) //nolint:errcheck // ends with either
	io.Copy(in, out)                                              //nolint:errcheck // ends with either
	f.mu.Lock()
	delete(f.conns, in)
	delete(f.conns, out)
	f.mu.Unlock()
}

func (f *forwarder) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
	for c := range f.conns {
		c.Close()
	}
}

func (f *forwarder) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = false
}

// container returns the id of a running container, "" if there is none.
func (s *services) container(t *testing.T, name string) string {
	t.Helper()
	list, err := s.Runtime.Client().ListContainers(context.WithoutCancel(t.Context()), &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.Metadata.Name == name {
			return c.ID
		}
	}
	return ""
}
