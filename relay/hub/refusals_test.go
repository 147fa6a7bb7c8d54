package hub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRefusalsAreToldOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	s := newRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1_800_000_000, 0)
	for range 1000 {
		s.tell(refusal{reason: "a", node: "gw-1", remote: "192.0.2.1:1", detail: "x\nlevel=INFO msg=forged"}, now)
	}
	s.tell(refusal{reason: "b", node: "gw-1"}, now)
	s.tell(refusal{reason: "a", remote: "192.0.2.1:1"}, now)
	s.tell(refusal{reason: "a", remote: "192.0.2.1:2"}, now) // the same source
	s.tell(refusal{reason: "a", node: "gw-1"}, now.Add(refusalWindow))
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %s", len(lines), log.String())
	}
	if !strings.Contains(lines[0], "node=gw-1") || !strings.Contains(lines[0], "reason=a") || !strings.Contains(lines[3], "unsaidBefore=999") {
		t.Errorf("%s\n%s", lines[0], lines[3])
	}
}

// TestRefusalsAreBounded: thousands of addresses fill neither memory nor log.
func TestRefusalsAreBounded(t *testing.T) {
	var log bytes.Buffer
	s := newRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1_800_000_000, 0)
	for i := range 10 * refusalsKept {
		s.tell(refusal{reason: "a", remote: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)}, now)
	}
	if len(s.said) > refusalsKept {
		t.Errorf("%d are remembered", len(s.said))
	}
	if n := strings.Count(log.String(), "\n"); n != linesBurst {
		t.Errorf("%d lines in a moment, want %d", n, linesBurst)
	}
}

func TestVisits(t *testing.T) {
	v := newVisits(60)
	now := time.Unix(1_800_000_000, 0)
	for i := range 60 {
		if no := v.allow("gw-1", now); no.reason != "" {
			t.Fatalf("visit %d is refused: %+v", i, no)
		}
	}
	if no := v.allow("gw-1", now); no.reason != "session-rate" || no.retryAfter < time.Second || no.retryAfter > 10*time.Second {
		t.Errorf("the 61st: %+v", no)
	}
	if no := v.allow("gw-2", now); no.reason != "" {
		t.Errorf("another node is refused: %+v", no)
	}
	for i := range 600 { // one a second is fine for ever
		now = now.Add(time.Second)
		if no := v.allow("gw-1", now); no.reason != "" {
			t.Fatalf("second %d is refused: %+v", i, no)
		}
	}
	v.forget(now.Add(2 * time.Minute))
	if len(v.nodes) != 0 {
		t.Errorf("%d nodes are remembered that have all their visits", len(v.nodes))
	}
}

// TestKeptOut: a node that went over a limit stays away for as long as it was told to, and is forgotten then.
func TestKeptOut(t *testing.T) {
	v := newVisits(60)
	now := time.Unix(1_800_000_000, 0)
	in := func(node string) bool { return v.allow(node, now).reason == "" }
	if !in("gw-1") {
		t.Fatal("the first visit is refused")
	}
	v.keepOut("gw-1", 30*time.Second, now)
	v.keepOut("gw-1", 10*time.Second, now) // does not shorten it
	v.keepOut("gw-2", 5*time.Minute, now)  // not seen before
	for s := range 30 {
		no := v.allow("gw-1", now)
		if want := time.Duration(30-s) * time.Second; no.reason != "over-limit" || no.retryAfter != want {
			t.Fatalf("after %d s: %+v, want to be kept out for %v", s, no, want)
		}
		v.forget(now)
		now = now.Add(time.Second)
	}
	if !in("gw-1") {
		t.Error("it comes when it was told to, and is refused")
	}
	if in("gw-2") || !in("gw-3") {
		t.Error("gw-2 is let in, or gw-3 is kept out")
	}
	now = now.Add(4 * time.Minute)
	if v.forget(now); len(v.nodes) != 1 { // all visits are there again, and gw-2 has half a minute left
		t.Errorf("%d nodes are remembered, want 1", len(v.nodes))
	}
	now = now.Add(30 * time.Second)
	if v.forget(now); len(v.nodes) != 0 || !in("gw-2") {
		t.Errorf("%d nodes are remembered that nothing is held against", len(v.nodes))
	}
}

// TestKeptOutHasAllItsVisits: knocking at a closed door costs a node no visits; it is honest, maybe, and was updated meanwhile.
func TestKeptOutHasAllItsVisits(t *testing.T) {
	v := newVisits(60)
	now := time.Unix(1_800_000_000, 0)
	v.keepOut("gw-1", time.Second, now)
	for range 1000 {
		v.allow("gw-1", now)
	}
	now = now.Add(time.Second)
	for i := range 60 {
		if no := v.allow("gw-1", now); no.reason != "" {
			t.Fatalf("visit %d is refused: %+v", i, no)
		}
	}
}

func TestSecondsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", time.Second: "1", 29001 * time.Millisecond: "30"} {
		if got := seconds(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// pipeFrom is a connection that comes from an address.
type pipeFrom struct {
	net.Conn
	addr   string
	closed bool
}

func (c *pipeFrom) RemoteAddr() net.Addr {
	a, err := net.ResolveTCPAddr("tcp", c.addr)
	if err != nil {
		panic(err)
	}
	return a
}

func (c *pipeFrom) Close() error { c.closed = true; return nil }

// TestGateIsFair: whoever has the most connections loses them when there are too many.
func TestGateIsFair(t *testing.T) {
	told := map[string]int{}
	g := newGate(10, func(reason string, c *connecting) { told[reason+" "+c.source]++ })
	enter := func(addr string) *pipeFrom {
		c := &pipeFrom{addr: addr}
		g.enter(context.Background(), c)
		return c
	}
	var many []*pipeFrom
	for range 15 {
		many = append(many, enter("192.0.2.66:1"))
	}
	if len(g.all) != 10 || told["too-many-connections 192.0.2.66"] != 5 || !many[14].closed || many[0].closed {
		t.Fatalf("%d are open, %v", len(g.all), told)
	}
	honest := []*pipeFrom{enter("192.0.2.1:1"), enter("192.0.2.2:1"), enter("192.0.2.2:2")}
	for _, c := range honest {
		if c.closed {
			t.Errorf("%s is kept out", c.addr)
		}
	}
	if len(g.all) != 10 || told["too-many-connections 192.0.2.66"] != 8 {
		t.Errorf("%d are open, %v", len(g.all), told)
	}
	for c := range g.all {
		g.state(c, http.StateActive)
		g.state(c, http.StateClosed)
	}
	if len(g.all) != 0 || len(g.bySource) != 0 || told["no-request 192.0.2.66"] != 7 || told["no-request 192.0.2.2"] != 2 {
		t.Errorf("%d are open, %v", len(g.all), told)
	}
}

func TestUnfitError(t *testing.T) {
	for _, e := range []unfitError{{"revoked", "gw-1", "node gw-1 is revoked: stolen"}, {"not-a-node", "", "the certificate names: nobody"}} {
		if got, ok := parseUnfit(e.Error()); !ok || got != e {
			t.Errorf("%+v became %+v, %v", e, got, ok)
		}
	}
	for _, line := range []string{"EOF", "tls: unfit certificate revoked gw-1: x", "unfit certificate", "unfit certificate revoked: x"} {
		if got, ok := parseUnfit(line); ok {
			t.Errorf("%q is taken for %+v", line, got)
		}
	}
}
