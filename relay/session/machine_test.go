package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

type bench struct {
	*session.Machine
	t       *testing.T
	now     time.Time
	cluster *sessiontest.Cluster
	view    *sessiontest.View
}

func newBench(t *testing.T, l session.Limits) *bench {
	b := &bench{t: t, now: time.Unix(1_800_000_000, 0), cluster: sessiontest.NewCluster()}
	b.view = b.cluster.View()
	b.Machine = session.New(session.Config{Node: node, Relay: "r", Epoch: 5, Source: b.view, Rules: 1, Limits: l}, b.now)
	return b
}

func (b *bench) step(ev session.Event) string {
	var out []string
	for _, a := range b.Step(ev, b.now) {
		switch t := a.(type) {
		case session.Send:
			s := fmt.Sprint("send ", t.Frame.Type())
			if c, ok := t.Frame.(*wire.Close); ok {
				s = fmt.Sprint("close ", c.Code)
			}
			out = append(out, s)
		case session.Report:
			out = append(out, "report "+string(t.Key))
		default:
			out = append(out, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", a), "session.")))
		}
	}
	return strings.Join(out, ", ")
}

func (b *bench) frame(f wire.Frame) string { return b.step(session.Received{Frame: f, Size: 10}) }

func (b *bench) want(got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Fatalf("got %q, want %q", got, want)
	}
}

func hello() *wire.Hello {
	return &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: node, Heartbeat: 15000, MaxFrame: 1 << 20}
}

func (b *bench) open() {
	b.t.Helper()
	b.view.Follow()
	b.want(b.frame(hello()), "start")
	b.want(b.step(session.Started{}), "send welcome, send synced")
}

func TestHelloIsChecked(t *testing.T) {
	for want, change := range map[string]func(*wire.Hello){
		"close forbidden, hangup":         func(h *wire.Hello) { h.Node = "gw-2" },
		"close no-common-version, hangup": func(h *wire.Hello) { h.ProtoMin, h.ProtoMax = 7, 9 },
		"close protocol-error, hangup":    func(h *wire.Hello) { h.MaxFrame = 100 },
	} {
		b := newBench(t, session.Limits{})
		h := hello()
		change(h)
		b.want(b.frame(h), want)
	}
	b := newBench(t, session.Limits{})
	b.want(b.frame(&wire.Ack{ID: 1}), "close protocol-error, hangup")
	b = newBench(t, session.Limits{})
	b.want(b.frame(hello()), "start")
	b.want(b.frame(hello()), "close protocol-error, hangup")
	b = newBench(t, session.Limits{})
	b.want(b.frame(hello()), "start")
	b.want(b.step(session.Started{Err: errors.New("api server down")}), "close unavailable, hangup")
}

func TestViolations(t *testing.T) {
	body := linktest.Body(1)
	self := wire.NewKey(wire.KindNode, "", node, "")
	for name, f := range map[string]wire.Frame{
		"ack of nothing":      &wire.Ack{ID: 1},
		"relay's frame":       &wire.Pong{},
		"entries not asked":   &wire.Entries{},
		"second hello":        hello(),
		"report not encoded":  &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: self, Body: []byte{0xc1}}}},
		"outbox without item": &wire.Outbox{},
		"list before a sum":   &wire.Offer{Seq: 1, Items: []wire.OfferItem{{Key: self}}},
		"offer out of order":  &wire.Offer{Seq: 2, Sum: make([]byte, 16)},
	} {
		b := newBench(t, session.Limits{})
		b.open()
		if got := b.frame(f); got != "close protocol-error, hangup" {
			t.Errorf("%s: %q", name, got)
		}
	}
	b := newBench(t, session.Limits{})
	b.open()
	b.want(b.frame(&wire.Outbox{Items: []wire.OutboxItem{{Epoch: 1, Seq: 1, Kind: "event", Body: body}}}), "storeoutbox")
	b.want(b.frame(&wire.Outbox{Items: []wire.OutboxItem{{Epoch: 1, Seq: 2, Kind: "event", Body: body}}}), "close protocol-error, hangup")
}

// TestOffersAreBounded: each costs the Sink work, so a session has one sum and a list, answered one by one.
func TestOffersAreBounded(t *testing.T) {
	sum := func(seq uint64) wire.Frame { return &wire.Offer{Seq: seq, Sum: make([]byte, 16)} }
	list := func(seq uint64, n int) wire.Frame {
		f := &wire.Offer{Seq: seq}
		for i := range n {
			f.Items = append(f.Items, wire.OfferItem{Key: wire.NewKey(wire.KindDevice, "d", fmt.Sprint(i), "")})
		}
		return f
	}
	b := newBench(t, session.Limits{MaxEntries: 10})
	b.open()
	b.want(b.frame(sum(1)), "offerall")
	b.want(b.frame(list(2, 1)), "close protocol-error, hangup")
	b = newBench(t, session.Limits{MaxEntries: 10})
	b.open()
	b.want(b.frame(sum(1)), "offerall")
	b.want(b.step(session.Wanted{Seq: 1, List: true}), "send want")
	b.want(b.step(session.Wanted{Seq: 1, List: true}), "")
	b.want(b.frame(list(2, 6)), "offer")
	b.want(b.step(session.Wanted{Seq: 2}), "send want")
	b.want(b.step(session.Wanted{}), "")
	b.want(b.frame(list(3, 6)), "close limit, hangup")
	b = newBench(t, session.Limits{})
	b.open()
	b.want(b.frame(sum(1)), "offerall")
	b.want(b.step(session.Wanted{Seq: 1}), "send want")
	b.want(b.frame(sum(2)), "close protocol-error, hangup")
}

// TestNodeRestriction: a node reports on itself and on what is bound to it.
func TestNodeRestriction(t *testing.T) {
	b := newBench(t, session.Limits{})
	cfg := wire.NewKey(wire.KindConfigMap, "d", "c", "")
	mine, others := wire.NewKey(wire.KindPod, "d", "mine", "u"), wire.NewKey(wire.KindPod, "d", "others", "u")
	b.cluster.Put("", cfg, linktest.Body(1))
	b.cluster.Put(node, mine, linktest.Body(1, cfg))
	b.cluster.Put("gw-2", others, linktest.Body(1, cfg))
	b.cluster.Put("gw-2", wire.NewKey(wire.KindDevice, "d", "dev", ""), linktest.Body(1))
	b.view.Follow()
	b.want(b.frame(hello()), "start")
	b.want(b.step(session.Started{}), "send welcome, send compare")
	b.want(b.frame(&wire.Entries{}), "send commit")
	items := []wire.ReportItem{}
	for _, k := range []wire.Key{wire.NewKey(wire.KindNode, "", node, ""), wire.NewKey(wire.KindNode, "", "gw-2", ""), mine, others,
		wire.NewKey(wire.KindPod, "d", "mine", "other-uid"), wire.NewKey(wire.KindDevice, "d", "dev", ""), cfg} {
		items = append(items, wire.ReportItem{Key: k, Body: linktest.Body(1)})
	}
	b.want(b.frame(&wire.Report{Seq: 1, Items: items}), "report nodes//gw-1, report "+string(mine)+", send report-ack, refused")
	if n := b.Stats().ReportsRefused; n != 5 {
		t.Fatalf("%d reports were refused, want 5", n)
	}
}

func TestRelayHeartbeat(t *testing.T) {
	b := newBench(t, session.Limits{})
	b.open()
	b.now = b.now.Add(20 * time.Second)
	b.want(b.frame(&wire.Ping{}), "send pong")
	if d := b.Wake().Sub(b.now); d != 30*time.Second {
		t.Fatalf("wakes in %v", d)
	}
	b.now = b.now.Add(30 * time.Second)
	b.want(b.step(session.Tick{}), "close heartbeat, hangup")
	b.want(b.step(session.Tick{}), "")
	if !b.Wake().IsZero() {
		t.Fatal("a closed session wants to be woken")
	}
}

func TestOutboxIsRetried(t *testing.T) {
	b := newBench(t, session.Limits{})
	b.open()
	good := wire.OutboxItem{Epoch: 1, Seq: 1, Kind: "event", Body: linktest.Body(1)}
	bad := wire.OutboxItem{Epoch: 1, Seq: 2, Kind: "event", Body: []byte{0xc1}}
	b.want(b.frame(&wire.Outbox{Items: []wire.OutboxItem{good, bad}}), "refused, storeoutbox")
	b.want(b.step(session.OutboxStored{Err: errors.New("api server down")}), "note")
	b.want(b.step(session.Tick{}), "")
	b.now = b.now.Add(time.Second)
	b.want(b.step(session.Tick{}), "storeoutbox")
	b.want(b.step(session.OutboxStored{}), "send outbox-ack")
	b.want(b.frame(&wire.Outbox{Items: []wire.OutboxItem{bad}}), "refused, send outbox-ack")
	b.want(b.frame(&wire.Outbox{Items: []wire.OutboxItem{bad, bad, bad}}), "refused, send outbox-ack")
}

func TestQuotas(t *testing.T) {
	b := newBench(t, session.Limits{BytesPerSecond: 1000})
	b.open()
	b.want(b.step(session.Received{Frame: &wire.Ping{}, Size: 5000}), "close limit, hangup")

	b = newBench(t, session.Limits{MaxEntries: 3})
	b.view.Follow()
	b.want(b.frame(func() *wire.Hello {
		h := hello()
		d := wire.DigestOf(1, manyEntries(10))
		h.Digest = d.Outline()
		return h
	}()), "start")
	b.want(b.step(session.Started{}), "send welcome, send compare")
	e := &wire.Entries{}
	for _, x := range manyEntries(10) {
		e.Entries = append(e.Entries, wire.EntryItem(x))
	}
	b.want(b.frame(e), "close limit, hangup")
}

func manyEntries(n int) []wire.Entry {
	var out []wire.Entry
	for i := range n {
		out = append(out, wire.Entry{Key: wire.NewKey(wire.KindConfigMap, "d", fmt.Sprint("c", i), ""), Version: wire.AbsentVersion()})
	}
	return out
}

// TestTooLargeForTheAgent: what does not fit is left out with what needs it, said once, and sent when it shrinks.
func TestTooLargeForTheAgent(t *testing.T) {
	b := newBench(t, session.Limits{})
	big, pod, other := wire.NewKey(wire.KindConfigMap, "d", "big", ""), wire.NewKey(wire.KindPod, "d", "p", "u"), wire.NewKey(wire.KindPod, "d", "q", "u")
	refs := make([]wire.Key, 4000)
	for i := range refs {
		refs[i] = "configmaps/d/" // a long body
	}
	b.cluster.Put("", big, linktest.Body(1, refs...))
	b.cluster.Put(node, pod, linktest.Body(1, big))
	b.cluster.Put(node, other, linktest.Body(1))
	b.view.Follow()
	h := hello()
	h.MaxFrame = wire.MinFrame
	b.want(b.frame(h), "start")
	b.want(b.step(session.Started{}), "send welcome, send compare")
	b.want(b.frame(&wire.Entries{}), "note, send commit")
	b.want(b.frame(&wire.Ack{ID: 1}), "send synced")
	b.want(b.step(session.Dirty{Keys: []wire.Key{pod}}), "")
	b.cluster.Put("", big, linktest.Body(2))
	b.view.Follow()
	b.want(b.step(session.Dirty{Keys: []wire.Key{big, pod}}), "send commit")
	if s := b.Stats(); s.ObjectsSent != 3 || s.CommitsSent != 2 {
		t.Fatalf("stats %+v", s)
	}
}

// TestTooLargeIsForgotten: what is gone is not remembered as too large; under the same version it would be told of again.
func TestTooLargeIsForgotten(t *testing.T) {
	b := newBench(t, session.Limits{})
	big, pod := wire.NewKey(wire.KindConfigMap, "d", "big", ""), wire.NewKey(wire.KindPod, "d", "p", "u")
	refs := make([]wire.Key, 4000)
	for i := range refs {
		refs[i] = "configmaps/d/" // a long body
	}
	b.cluster.Put("", big, linktest.Body(1, refs...))
	b.view.Follow()
	h := hello()
	h.MaxFrame = wire.MinFrame
	b.want(b.frame(h), "start")
	b.want(b.step(session.Started{}), "send welcome, send synced")
	change := func() string {
		b.view.Follow()
		return b.step(session.Dirty{Keys: []wire.Key{pod}})
	}
	for range 3 {
		b.cluster.Put(node, pod, linktest.Body(1, big))
		b.want(change(), "note")
		b.want(change(), "")
		b.cluster.Delete(pod)
		b.want(change(), "")
	}
}

// TestReasonsAreCutBetweenCharacters: an agent refuses a frame with half a character in it, and would not know why the session ended.
func TestReasonsAreCutBetweenCharacters(t *testing.T) {
	for reason, want := range map[string]string{
		"gr\xfcn":                               "gr?n",
		"a" + strings.Repeat("ü", wire.MaxText): "a" + strings.Repeat("ü", (wire.MaxText-1)/2),
		strings.Repeat("x", wire.MaxText+1):     strings.Repeat("x", wire.MaxText),
	} {
		b := newBench(t, session.Limits{})
		acts := b.Step(session.Shut{Code: wire.CloseRevoked, Reason: reason}, b.now)
		encoded, err := wire.Encode(acts[0].(session.Send).Frame)
		if err != nil {
			t.Fatal(err)
		}
		f, err := wire.Decode(encoded)
		if err != nil {
			t.Fatalf("%q: %v", reason, err)
		}
		if got := f.(*wire.Close).Reason; got != want {
			t.Errorf("%q became %q", reason, got)
		}
	}
}

// TestWindow: no more commits than allowed are in flight, and the newest version goes when there is room.
func TestWindow(t *testing.T) {
	b := newBench(t, session.Limits{InFlight: 2})
	b.open()
	k := wire.NewKey(wire.KindDevice, "d", "dev", "")
	put := func(n int) string {
		b.cluster.Put(node, k, linktest.Body(n))
		b.view.Follow()
		return b.step(session.Dirty{Keys: []wire.Key{k}})
	}
	b.want(put(1), "send commit")
	b.want(put(2), "send commit")
	b.want(put(3), "")
	b.want(put(4), "")
	acts := append([]session.Action(nil), b.Step(session.Received{Frame: &wire.Ack{ID: 1}, Size: 5}, b.now)...)
	if len(acts) != 1 {
		t.Fatalf("%v", acts)
	}
	if c := acts[0].(session.Send).Frame.(*wire.CommitPart); c.Put[0].Version != wire.BodyVersion("uid-dev", linktest.Body(4)) {
		t.Fatal("an old version was sent")
	}
}
