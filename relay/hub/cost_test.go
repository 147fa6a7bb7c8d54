package hub_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
)

// reconnectBudget is what an unchanged agent may cost when it comes back, bytes in both directions, WebSocket upgrade, frames and
// the overhead of WebSocket and TLS records included, TLS handshake and TCP/IP not.
const reconnectBudget = 1024

// TestUnchangedAgentIsCheap connects an agent again that has a Node, a pod with a configMap and a device with its model, and
// status documents of all three, and counts what that costs.
func TestUnchangedAgentIsCheap(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 70_000 { // revisions as large as those of a cluster that has been in use
		w.cluster.Put("", wire.NewKey(wire.KindConfigMap, "other", "busy", ""), linktest.Body(i))
	}
	pod := wire.NewKey(wire.KindPod, "default", "web-7d4b9c6f5-x2x9z", "0b0f4b5e-8c3f-4a43-9a0e-6f0c0a3f7a11")
	dev := wire.NewKey(wire.KindDevice, "default", "boiler-1", "")
	cfg, model := wire.NewKey(wire.KindConfigMap, "default", "web", ""), wire.NewKey(wire.KindDeviceModel, "default", "boiler", "")
	self := wire.NewKey(wire.KindNode, "", node, "")
	w.cluster.Put("", cfg, linktest.Body(1))
	w.cluster.Put("", model, linktest.Body(1))
	w.cluster.Put(node, self, linktest.Body(1))
	w.cluster.Put(node, pod, linktest.Body(1, cfg))
	w.cluster.Put(node, dev, linktest.Body(1, model))
	w.view.Follow()

	var wires meteredWires
	g := w.gateway(func(o *link.Options) { o.Dial, o.Version = wires.dial, "v1.0.0" })
	report := func(salt int) {
		for i, k := range []wire.Key{self, pod, dev} {
			g.Report(k, linktest.Body(salt+i, wire.Key(strings.Repeat("x", 1000))))
		}
	}
	settled := func() bool { st := g.Status(); return st.InSync && st.ReportsPending == 0 }
	report(0)
	eventually(t, "in sync", settled)
	reconnect := func() (sent, received int, frames []string) {
		st := g.Status()
		wires.last().Close()
		eventually(t, "in sync again", func() bool { return g.Status().Sessions > st.Sessions && settled() })
		last := wires.last()
		last.mu.Lock()
		defer last.mu.Unlock()
		return last.sent.bytes, last.received.bytes, append(last.sent.sizes(), last.received.sizes()...)
	}

	before := g.Status()
	sent, received, records := reconnect()
	t.Logf("an unchanged agent sends %d bytes and receives %d, in records of %s", sent, received, strings.Join(records, ", "))
	if sent+received > reconnectBudget {
		t.Errorf("an unchanged agent costs %d bytes, the budget is %d", sent+received, reconnectBudget)
	}
	if sent < 200 || received < 200 {
		t.Errorf("%d and %d bytes are too few to be true: the count is wrong", sent, received)
	}
	st := g.Status()
	if st.ReportsSent != before.ReportsSent || st.ObjectsReceived != before.ObjectsReceived {
		t.Errorf("sent %d reports, received %d objects", st.ReportsSent-before.ReportsSent, st.ObjectsReceived-before.ObjectsReceived)
	}
	if n := w.counter(`skerry_relay_handshakes_total{resumed="true"}`); n != 1 {
		t.Fatalf("%d TLS sessions were resumed: the handshake was not told from the rest", n)
	}

	// A relay that has lost sight of one document asks for this one.
	w.sink.Forget(node, func(k wire.Key) bool { return k == dev })
	before = g.Status()
	sent, received, _ = reconnect()
	t.Logf("with one document of three lost: %d bytes sent, %d received", sent, received)
	if n := g.Status().ReportsSent - before.ReportsSent; n != 1 {
		t.Errorf("%d documents were sent again, one was lost", n)
	}
	// In an open session it asks, too.
	before = g.Status()
	w.hub.Want(node, w.hub.Sessions()[0].Epoch, w.sink.Forget(node, func(k wire.Key) bool { return k == self }))
	eventually(t, "sent again", func() bool { return g.Status().ReportsSent == before.ReportsSent+1 && settled() })
	if !w.sink.OfferedAll(node, w.hub.Sessions()[0].Epoch, w.sink.Sum(node)) || w.sink.Sum(node) == (wire.Sum{}) {
		t.Error("the sink lacks a document")
	}
}

// meteredWires are the connections of an agent.
type meteredWires struct {
	mu    sync.Mutex
	wires []*meteredWire
}

func (m *meteredWires) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &meteredWire{Conn: c}
	// A resumed handshake as crypto/tls does it (RFC 8446): ClientHello | ServerHello, ChangeCipherSpec, EncryptedExtensions,
	// Finished, and a ticket | ChangeCipherSpec, Finished.
	w.sent.skip, w.received.skip = 3, 5
	m.wires = append(m.wires, w)
	return w, nil
}

func (m *meteredWires) last() *meteredWire {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wires[len(m.wires)-1]
}

// meteredWire counts TLS records after the handshake.
type meteredWire struct {
	net.Conn
	mu             sync.Mutex
	sent, received records
}

// Read implements net.Conn.
func (w *meteredWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.received.take(p[:n])
	return n, err
}

// Write implements net.Conn.
func (w *meteredWire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent.take(p[:n])
	return n, err
}

// records counts the bytes of one direction.
type records struct {
	skip  int // records of the handshake that are still to come
	bytes int // of all records after them
	each  []int
	rest  []byte
}

func (r *records) take(p []byte) {
	const header = 5 // RFC 8446, section 5.1
	r.rest = append(r.rest, p...)
	for len(r.rest) >= header {
		n := header + int(binary.BigEndian.Uint16(r.rest[3:]))
		if len(r.rest) < n {
			return
		}
		if r.skip--; r.skip < 0 {
			r.bytes += n
			r.each = append(r.each, n)
		}
		r.rest = r.rest[n:]
	}
}

func (r *records) sizes() (out []string) {
	for _, n := range r.each {
		out = append(out, fmt.Sprint(n))
	}
	return out
}
