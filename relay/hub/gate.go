package hub

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/relay/source"
)

// defaultConnecting is how many connections may be open that are no sessions (yet): in the TLS handshake, in an HTTP request. Each
// costs some ten KiB, and a fleet that comes back after a power cut has all of its gateways in this state.
const defaultConnecting = 16384

// gate bounds connections that are not sessions. When it is full, the source address that has the most of them loses one, so that
// one host that opens thousands does not keep the others out. Safe for concurrent use.
type gate struct {
	max     int
	refused func(reason string, c *connecting)

	mu       sync.Mutex
	all      map[net.Conn]*connecting
	bySource map[string]map[net.Conn]*connecting
}

// connecting is one connection at the gate.
type connecting struct {
	source, remote string
	since          time.Time
	served         atomic.Bool // a request reached a handler
	node           string      // by its certificate, if it has shown one
}

type connectingKey struct{}

func newGate(limit int, refused func(reason string, c *connecting)) *gate {
	if limit <= 0 {
		limit = defaultConnecting
	}
	return &gate{max: limit, refused: refused, all: map[net.Conn]*connecting{}, bySource: map[string]map[net.Conn]*connecting{}}
}

// enter is the http.Server's ConnContext: it runs for each connection before anything is read from it.
func (g *gate) enter(ctx context.Context, conn net.Conn) context.Context {
	remote := conn.RemoteAddr().String()
	c := &connecting{source: source.Of(remote), remote: remote, since: time.Now()}
	g.mu.Lock()
	victim, who := net.Conn(nil), c
	if len(g.all) >= g.max {
		victim, who = g.heaviest(conn, c)
	}
	if victim != conn {
		g.add(conn, c)
	}
	g.mu.Unlock()
	if victim != nil {
		// Below TLS, whose Close may wait for a peer that takes nothing: nobody else is accepted meanwhile.
		if t, ok := victim.(*tls.Conn); ok {
			victim = t.NetConn()
		}
		_ = victim.Close()
		g.refused("too-many-connections", who)
	}
	return context.WithValue(ctx, connectingKey{}, c)
}

// heaviest chooses who has to go: the newcomer if its source has the most connections, else one of the source that has.
func (g *gate) heaviest(conn net.Conn, c *connecting) (net.Conn, *connecting) {
	most := g.bySource[c.source]
	for _, s := range g.bySource {
		if len(s) > len(most) {
			most = s
		}
	}
	for victim, v := range most {
		if v.source == c.source {
			break
		}
		g.remove(victim, v)
		return victim, v
	}
	return conn, c
}

func (g *gate) add(conn net.Conn, c *connecting) {
	g.all[conn] = c
	s := g.bySource[c.source]
	if s == nil {
		s = map[net.Conn]*connecting{}
		g.bySource[c.source] = s
	}
	s[conn] = c
}

func (g *gate) remove(conn net.Conn, c *connecting) {
	delete(g.all, conn)
	s := g.bySource[c.source]
	delete(s, conn)
	if len(s) == 0 {
		delete(g.bySource, c.source)
	}
}

// state is the http.Server's ConnState.
func (g *gate) state(conn net.Conn, st http.ConnState) {
	if st != http.StateHijacked && st != http.StateClosed {
		return
	}
	g.mu.Lock()
	c := g.all[conn]
	if c != nil {
		g.remove(conn, c)
	}
	g.mu.Unlock()
	if c == nil || st != http.StateClosed || c.served.Load() {
		return
	}
	if t, ok := conn.(*tls.Conn); ok {
		cs := t.ConnectionState()
		if !cs.HandshakeComplete {
			return // serverErrors has told of it
		}
		c.node = nodeOf(&cs)
	}
	g.refused("no-request", c)
}

// serverErrors takes what http.Server has to say: that a TLS handshake failed, which is ours to tell of
// (verify leaves it to this, too), and little else.
type serverErrors struct{ h *Hub }

// Write implements io.Writer.
func (e serverErrors) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	rest, ok := strings.CutPrefix(text, "http: TLS handshake error from ")
	remote, why, cut := strings.Cut(rest, ": ")
	if !ok || !cut {
		e.h.log.Debug(text)
		return len(line), nil
	}
	if u, ok := parseUnfit(why); ok {
		e.h.refuse(u.reason, u.node, remote, "%s", u.text)
		return len(line), nil
	}
	e.h.meter.refused("tls-handshake")
	// Load balancers and monitors open connections and close them again.
	e.h.refusals.tell(refusal{reason: "tls-handshake", remote: remote, detail: why, routine: strings.HasSuffix(why, "EOF")}, time.Now())
	return len(line), nil
}

// served notes that the connection of a request has asked for something.
func served(r *http.Request) {
	if c, ok := r.Context().Value(connectingKey{}).(*connecting); ok {
		c.served.Store(true)
	}
}

// turnedAway counts and tells of a connection that never asked for anything.
func (h *Hub) turnedAway(reason string, c *connecting) {
	detail := "it has the most connections without a session, and there are too many of them"
	if reason == "no-request" {
		detail = "the connection ended without a request that was understood: a header that is too slow or too large, or none"
	}
	h.refuse(reason, c.node, c.remote, "%s (open for %v)", detail, time.Since(c.since).Round(time.Millisecond))
}

// nodeOf is the node that a finished handshake is for, "" for nobody.
func nodeOf(cs *tls.ConnectionState) string {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return ""
	}
	node, err := join.NodeOf(cs.PeerCertificates[0])
	if err != nil {
		return ""
	}
	return node
}
