package hub_test

import (
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/relay/hub"
)

// TestSessionsResumeAtAnotherRelay moves an agent from one relay to another with the same ticket keys: its TLS session resumes, and
// revocation holds for resumed sessions, too.
func TestSessionsResumeAtAnotherRelay(t *testing.T) {
	a := newWorld(t, nil)
	b := newWorld(t, func(o *hub.Options) { o.TLS = a.pki.ServerTLS() }) // a certificate of its own, of the same CA
	keys := [][32]byte{{1}, {2}}
	a.hub.SetTicketKeys(keys)
	b.hub.SetTicketKeys([][32]byte{{3}, {1}, {2}}) // b has rotated already
	g := a.gateway(func(o *link.Options) { o.Addresses = []string{a.address, b.address} })
	eventually(t, "in sync with a", func() bool { return g.Status().InSync })
	a.stop()
	eventually(t, "in sync with b", func() bool { return g.Status().InSync && g.Status().Address == b.address })
	const resumed = `skerry_relay_handshakes_total{resumed="true"}`
	if n := b.counter(resumed); n != 1 {
		t.Errorf("%d TLS sessions of a were resumed at b, want 1", n)
	}
	b.revoked.Store(true)
	b.hub.Revoke(node)
	const refused = `skerry_relay_connections_refused_total{reason="revoked"}`
	eventually(t, "a resumed session is refused", func() bool { return b.counter(resumed) >= 2 && b.counter(refused) >= 1 })
	time.Sleep(50 * time.Millisecond)
	if len(b.hub.Sessions()) != 0 || g.Status().Connected {
		t.Error("a revoked node has a session")
	}
}
