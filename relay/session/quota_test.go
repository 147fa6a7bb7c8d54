package session_test

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/relay/session"
)

// refused returns the one Refused among the actions of ev.
func (b *bench) refused(ev session.Event) session.Refused {
	b.t.Helper()
	var found []session.Refused
	for _, a := range b.Step(ev, b.now) {
		if r, ok := a.(session.Refused); ok {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		b.t.Fatalf("%d refusals: %+v, want one", len(found), found)
	}
	return found[0]
}

// TestMessageQuota: frames that weigh next to nothing count, too, and honest traffic passes for ever.
func TestMessageQuota(t *testing.T) {
	b := newBench(t, session.Limits{MessagesPerSecond: 10})
	b.open()
	for range 1000 {
		b.now = b.now.Add(100 * time.Millisecond)
		b.want(b.frame(&wire.Ping{}), "send pong")
	}
	for range 49 {
		b.want(b.frame(&wire.Ping{}), "send pong")
	}
	end := ""
	for range 3 {
		if end = b.frame(&wire.Ping{}); end != "send pong" {
			break
		}
	}
	b.want(end, "close limit, hangup")

	// Frames of types that this build does not know count as well.
	b = newBench(t, session.Limits{BytesPerSecond: 1000})
	b.open()
	b.want(b.step(session.Received{Size: 1000}), "")
	b.want(b.step(session.Received{Size: 5000}), "close limit, hangup")

	// A clock that jumps back gives nothing, and does not take anything either.
	b = newBench(t, session.Limits{MessagesPerSecond: 10})
	b.open()
	for range 40 {
		b.now = b.now.Add(-time.Hour)
		b.want(b.frame(&wire.Ping{}), "send pong")
	}
}

func (b *bench) reports(seq uint64, n int) session.Received {
	items := make([]wire.ReportItem, n)
	for i := range items {
		items[i] = wire.ReportItem{Key: wire.NewKey(wire.KindNode, "", node, ""), Body: linktest.Body(i)}
	}
	return session.Received{Frame: &wire.Report{Seq: seq, Items: items}, Size: 10}
}

// TestReportsArePaced: whoever reports too much is answered later; nobody is disconnected for it, and nothing is lost.
func TestReportsArePaced(t *testing.T) {
	b := newBench(t, session.Limits{ReportsPerSecond: 10})
	b.open()
	r := b.refused(b.reports(1, 130)) // a burst of 100 is free
	if r.Reason != session.RefusedReportRate || b.Stats().Reports != 130 {
		t.Fatalf("%+v with %d reports taken", r, b.Stats().Reports)
	}
	if d := b.Wake().Sub(b.now); d != 3*time.Second {
		t.Fatalf("acknowledged in %v, want 3s", d)
	}
	b.now = b.now.Add(2 * time.Second)
	b.want(b.step(session.Tick{}), "")
	b.want(b.step(session.Dirty{}), "")
	b.now = b.now.Add(time.Second)
	b.want(b.step(session.Tick{}), "send report-ack")
	b.now = b.now.Add(time.Second)
	b.want(b.step(b.reports(2, 5)), strings.Repeat("report nodes//gw-1, ", 5)+"send report-ack")

	b.refused(b.reports(3, 200))
	b.want(b.step(b.reports(4, 1)), "close protocol-error, hangup")
	if !b.Wake().IsZero() {
		t.Error("a closed session wants to be woken")
	}
}

// TestReplayedReports: a sequence number counts once in a session.
func TestReplayedReports(t *testing.T) {
	for _, again := range []uint64{0, 1, 7} {
		b := newBench(t, session.Limits{})
		b.open()
		b.want(b.step(b.reports(7, 1)), "report nodes//gw-1, send report-ack")
		b.want(b.step(b.reports(again, 1)), "close protocol-error, hangup")
	}
}

// TestRefusedReportsAreNamed: one line for a batch, and what is another node's comes before what is merely gone.
func TestRefusedReportsAreNamed(t *testing.T) {
	b := newBench(t, session.Limits{})
	theirs := wire.NewKey(wire.KindPod, "d", "theirs", "u")
	b.cluster.Put("gw-2", theirs, linktest.Body(1))
	b.open()
	item := func(k wire.Key) wire.ReportItem { return wire.ReportItem{Key: k, Body: linktest.Body(1)} }
	gone := item(wire.NewKey(wire.KindPod, "d", "gone", "u"))
	for i, c := range []struct {
		items   []wire.ReportItem
		reason  string
		detail  string
		routine bool
	}{
		{[]wire.ReportItem{gone}, session.RefusedUnknown, "pods/d/gone/u", true},
		{[]wire.ReportItem{gone, gone, item(theirs), gone}, session.RefusedAnotherNode, `belongs to node "gw-2" (and 3 more)`, false},
		{[]wire.ReportItem{item(wire.NewKey(wire.KindNode, "", "gw-2", ""))}, session.RefusedAnotherNode, "itself only", false},
		{[]wire.ReportItem{item(wire.NewKey(wire.KindSecret, "d", "s", ""))}, session.RefusedKind, "do not report on secrets", false},
	} {
		r := b.refused(session.Received{Frame: &wire.Report{Seq: uint64(i + 1), Items: c.items}, Size: 10})
		if r.Reason != c.reason || !strings.Contains(r.Detail, c.detail) || r.Routine != c.routine {
			t.Errorf("refused as %+v, want %s, %q", r, c.reason, c.detail)
		}
	}
}

// TestUnacknowledgedCommitsAreTold: the window bounds what they cost; the operator hears of them now and then.
func TestUnacknowledgedCommitsAreTold(t *testing.T) {
	b := newBench(t, session.Limits{AckPatience: time.Minute})
	b.cluster.Put(node, wire.NewKey(wire.KindNode, "", node, ""), linktest.Body(1))
	b.view.Follow()
	b.want(b.frame(hello()), "start")
	b.want(b.step(session.Started{}), "send welcome, send compare")
	b.want(b.frame(&wire.Entries{}), "send commit")
	for range 2 {
		for range 3 {
			b.now = b.now.Add(15 * time.Second)
			b.want(b.frame(&wire.Ping{}), "send pong")
		}
		b.now = b.now.Add(15 * time.Second)
		if r := b.refused(session.Tick{}); r.Reason != session.RefusedUnread {
			t.Fatalf("%+v", r)
		}
	}
	b.want(b.frame(&wire.Ack{ID: 1}), "send synced")
	for range 10 {
		b.now = b.now.Add(15 * time.Second)
		b.want(b.frame(&wire.Ping{}), "send pong")
	}
}

// TestForeignHoldingsAreDeleted: naming a key in entries is no way to get it.
func TestForeignHoldingsAreDeleted(t *testing.T) {
	b := newBench(t, session.Limits{})
	theirs := wire.NewKey(wire.KindSecret, "d", "theirs", "")
	b.cluster.Put("gw-2", theirs, linktest.Body(1))
	b.view.Follow()
	h := hello()
	e := []wire.Entry{{Key: theirs, Version: wire.Version{UID: "guess"}}}
	d := wire.DigestOf(1, e)
	h.Digest = d.Outline()
	b.want(b.frame(h), "start")
	b.want(b.step(session.Started{}), "send welcome, send compare")
	var commit *wire.CommitPart
	var refused session.Refused
	for _, a := range b.Step(session.Received{Frame: &wire.Entries{Entries: []wire.EntryItem{{Key: theirs, Version: e[0].Version}}}, Size: 10}, b.now) {
		switch t := a.(type) {
		case session.Send:
			if c, ok := t.Frame.(*wire.CommitPart); ok {
				commit = c
			}
		case session.Refused:
			refused = t
		}
	}
	if commit == nil || len(commit.Put) != 0 || len(commit.Delete) != 1 || commit.Delete[0] != theirs {
		t.Errorf("the answer is %+v, want the deletion of %s", commit, theirs)
	}
	if refused.Reason != session.RefusedForeignHeld || !strings.Contains(refused.Detail, string(theirs)) {
		t.Errorf("refused %+v", refused)
	}
}

// TestMirrorRequests: a node may ask for mirrors of its own static pods though nobody knows them, and for those of nobody else.
func TestMirrorRequests(t *testing.T) {
	b := newBench(t, session.Limits{})
	theirs := wire.NewKey(wire.KindPod, "d", "dns-"+node, "theirs")
	b.cluster.Put("gw-2", theirs, linktest.Body(1))
	b.open()
	request, err := canon.FromJSON([]byte(`{"mirror":{"metadata":{"name":"x"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	report := func(seq uint64, k wire.Key, body []byte) session.Event {
		return session.Received{Frame: &wire.Report{Seq: seq, Items: []wire.ReportItem{{Key: k, Body: body}}}, Size: 10}
	}
	own := wire.NewKey(wire.KindPod, "d", "dns-"+node, "h")
	b.want(b.step(report(1, own, request)), "report "+string(own)+", send report-ack")
	for i, c := range []struct {
		key    wire.Key
		body   []byte
		reason string
	}{
		{own, linktest.Body(1), session.RefusedUnknown},
		{wire.NewKey(wire.KindPod, "d", "dns-gw-2", "h"), request, session.RefusedUnknown},
		{theirs, request, session.RefusedAnotherNode},
	} {
		if r := b.refused(report(uint64(i+2), c.key, c.body)); r.Reason != c.reason {
			t.Errorf("%d: refused as %+v", i, r)
		}
	}
}
