package link_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/wire"
)

// dialled moves time to the next attempt and returns its address.
func (m *machine) dialled(ev link.Event) (to string, after time.Duration) {
	m.t.Helper()
	begin := m.now
	acts := m.Step(ev, m.now)
	for range 10 {
		for _, a := range acts {
			if d, ok := a.(link.Dial); ok {
				return d.To, m.now.Sub(begin)
			}
		}
		m.now = m.Wake()
		acts = m.Step(link.Tick{}, m.now)
	}
	m.t.Fatal("it does not dial again")
	return "", 0
}

func (m *machine) lost(conn uint64) link.Event {
	return link.Lost{Conn: conn, Err: errors.New("connection refused")}
}

// TestGoingElsewhere: relays that a leaving one names are dialled first, in their order, once each, not before the time that it
// asked for; then the configured ones follow as ever.
func TestGoingElsewhere(t *testing.T) {
	for _, code := range []wire.CloseCode{wire.CloseGoingAway, wire.CloseOverloaded} {
		m, _ := newMachine(t)
		m.up()
		m.now = m.now.Add(time.Minute)
		goodbye := &wire.Close{Code: code, RetryAfter: 4000, Elsewhere: []string{"x.example:1", "a:1", "x.example:1", "[fd00::2]:443"}}
		to, after := m.dialled(link.Received{Conn: 1, Frame: goodbye})
		if to != "x.example:1" || after < 4*time.Second || after > 5*time.Second {
			t.Fatalf("%v: dialled %s after %v", code, to, after)
		}
		if st := m.Status(); st.Address != "x.example:1" || !strings.Contains(st.LastError, "going on with x.example:1, [fd00::2]:443") {
			t.Fatalf("%v: status %+v", code, st)
		}
		var order []string
		for conn := uint64(2); conn < 6; conn++ {
			to, _ = m.dialled(m.lost(conn))
			order = append(order, to)
		}
		if got := strings.Join(order, " "); got != "[fd00::2]:443 b:1 a:1 b:1" {
			t.Fatalf("%v: then dialled %s", code, got)
		}
	}
}

// TestElsewhereEndsWithTheNextSession: what is left of the list is of no use once a relay has answered.
func TestElsewhereEndsWithTheNextSession(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	m.now = m.now.Add(time.Minute)
	if to, _ := m.dialled(link.Received{Conn: 1, Frame: &wire.Close{Code: wire.CloseGoingAway, Elsewhere: []string{"x:1", "y:1"}}}); to != "x:1" {
		t.Fatal(to)
	}
	m.want(m.step(link.Opened{Conn: 2}), "send hello")
	m.want(m.step(link.Received{Conn: 2, Frame: &wire.Welcome{Proto: 1, MaxFrame: 1 << 20}}), "readoutbox")
	if st := m.Status(); !st.Connected || st.Address != "x:1" {
		t.Fatalf("status %+v", st)
	}
	m.now = m.now.Add(time.Second)
	if to, _ := m.dialled(m.lost(2)); to != "b:1" {
		t.Fatalf("dialled %s", to)
	}
}

// TestElsewhereOnlyFromRelaysThatLeave: an error is no invitation, and what is no address is not dialled.
func TestElsewhereOnlyFromRelaysThatLeave(t *testing.T) {
	for _, c := range []*wire.Close{
		{Code: wire.CloseProtocol, Elsewhere: []string{"x:1"}},
		{Code: wire.CloseRevoked, Elsewhere: []string{"x:1"}},
		{Code: wire.CloseGoingAway, Elsewhere: []string{"x", ":1", "x:0", "http://x:1", "x y:1", "a:1"}},
		{Code: wire.CloseGoingAway},
	} {
		m, _ := newMachine(t)
		m.up()
		if to, _ := m.dialled(link.Received{Conn: 1, Frame: c}); to != "b:1" {
			t.Errorf("%v: dialled %s", c, to)
		}
	}
}

// TestWhoMustJoinAgain: a token alone does not let a revoked node join, so the gateway's technician is told who has to act first; one whose
// certificate is another node's needs a token only.
func TestWhoMustJoinAgain(t *testing.T) {
	for code, revoked := range map[wire.CloseCode]bool{wire.CloseRevoked: true, wire.CloseForbidden: false} {
		m, _ := newMachine(t)
		m.up()
		m.dialled(link.Received{Conn: 1, Frame: &wire.Close{Code: code}})
		text := m.Status().LastError
		restore, create := strings.Index(text, "skerryctl node restore "), strings.Index(text, "skerryctl token create --node ")
		if create < 0 || !strings.Contains(text, "join again") || (restore >= 0) != revoked || restore > create {
			t.Errorf("%v: %s", code, text)
		}
	}
}

// TestOverloadedRelaysThatNameEachOther must not make their agents run in circles.
func TestOverloadedRelaysThatNameEachOther(t *testing.T) {
	m, _ := newMachine(t)
	m.want(m.step(link.Start{}), "dial 0")
	begin := m.now
	for conn := uint64(1); conn <= 60; conn++ {
		m.want(m.step(link.Opened{Conn: conn}), "send hello")
		m.dialled(link.Received{Conn: conn, Frame: &wire.Close{Code: wire.CloseOverloaded, Elsewhere: []string{"x:1", "y:1"}}})
	}
	if d := m.now.Sub(begin); d < 12*time.Minute {
		t.Errorf("60 attempts in %v", d)
	}
}

// TestDeadRelayBesideALivingOne: an agent that has backed off for long and meets the dead one of two relays tries the other at
// once, and waits only when both have failed.
func TestDeadRelayBesideALivingOne(t *testing.T) {
	m, _ := newMachine(t)
	m.want(m.step(link.Start{}), "dial 0")
	var waits []time.Duration
	for conn := uint64(1); conn <= 20; conn++ {
		before := m.now
		m.dialled(m.lost(conn))
		waits = append(waits, m.now.Sub(before))
	}
	for i, w := range waits {
		if i%2 == 0 && w > time.Second {
			t.Errorf("%v after the first of the two relays could not be reached, attempt %d", w, i)
		}
		if i%2 == 1 && i > 12 && w < 10*time.Second {
			t.Errorf("%v after both relays could not be reached, attempt %d", w, i)
		}
	}
}
