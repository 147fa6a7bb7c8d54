package link_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *lockedBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *lockedBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not come to pass: %s", what)
}

// TestBackOffAndLog lets an agent fail for an hour of virtual time: the first retry is fast, then it slows down to one
// attempt in 15 to 30 s, and a cause that does not change is logged every five minutes.
func TestBackOffAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buf := &lockedBuffer{}
		var attempts []time.Time
		begin := time.Now()
		cl := link.New(link.Options{
			Addresses: []string{"relay:443"}, Node: "gw", Desired: linktest.NewStore(), Log: slog.New(slog.NewTextHandler(buf, nil)),
			TLS: func() (*tls.Config, error) {
				attempts = append(attempts, time.Now())
				return nil, errors.New("no")
			},
		})
		stop := start(t, cl)
		time.Sleep(time.Hour)
		synctest.Wait()
		stop()
		if d := attempts[1].Sub(begin); d > time.Second {
			t.Errorf("the first retry came after %v", d)
		}
		for i := 8; i < len(attempts); i++ {
			if d := attempts[i].Sub(attempts[i-1]); d < 15*time.Second || d > 30*time.Second {
				t.Fatalf("attempt %d came %v after the one before", i, d)
			}
		}
		if n := strings.Count(buf.String(), "level=WARN"); n < 11 || n > 13 {
			t.Errorf("%d warnings in an hour, want one every five minutes", n)
		}
	})
}

// machine is a Machine with its time, for tests of single steps.
type machine struct {
	*link.Machine
	t   *testing.T
	now time.Time
}

func newMachine(t *testing.T) (*machine, *linktest.Store) {
	store := linktest.NewStore()
	m := link.NewMachine(link.Options{Addresses: []string{"a:1", "b:1"}, Node: "gw", Desired: store, Outbox: store}, 1)
	return &machine{Machine: m, t: t, now: time.Unix(1_800_000_000, 0)}, store
}

// step returns what the machine wants in words.
func (m *machine) step(ev link.Event) string {
	return words(m.Step(ev, m.now))
}

func words(acts []link.Action) string {
	var out []string
	for _, a := range acts {
		switch t := a.(type) {
		case link.Send:
			out = append(out, fmt.Sprint("send ", t.Frame.Type()))
		case link.Dial:
			out = append(out, fmt.Sprint("dial ", t.Address))
		case link.Apply:
			out = append(out, fmt.Sprint("apply ", t.Commit.ID))
		case link.Note:
		default:
			out = append(out, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", a), "link.")))
		}
	}
	return strings.Join(out, ", ")
}

func firstSent(acts []link.Action) wire.Frame {
	for _, a := range acts {
		if s, ok := a.(link.Send); ok {
			return s.Frame
		}
	}
	return nil
}

func (m *machine) want(got, want string) {
	m.t.Helper()
	if got != want {
		m.t.Fatalf("got %q, want %q", got, want)
	}
}

func (m *machine) up() uint64 {
	m.t.Helper()
	m.want(m.step(link.Start{}), "dial 0")
	m.want(m.step(link.Opened{Conn: 1}), "send hello")
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.Welcome{Proto: 1, Heartbeat: 15000, MaxFrame: 1 << 20, Time: m.now.UnixMilli()}}), "readoutbox")
	m.want(m.step(link.OutboxRead{Conn: 1}), "")
	return 1
}

// to moves time to where the machine wants to be woken, which must be after d.
func (m *machine) to(d time.Duration) {
	m.t.Helper()
	if got := m.Wake().Sub(m.now); got != d {
		m.t.Fatalf("the next wake-up is in %v, want %v", got, d)
	}
	m.now = m.Wake()
}

func TestHeartbeat(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	m.to(15 * time.Second)
	m.want(m.step(link.Tick{}), "send ping, readoutbox")
	m.want(m.step(link.OutboxRead{Conn: 1}), "")
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.Pong{}}), "")
	m.to(14 * time.Second) // a heartbeat after the ping was sent
	m.want(m.step(link.Tick{}), "send ping, readoutbox")
	m.to(16 * time.Second) // two heartbeats after the pong
	m.want(m.step(link.Tick{}), "hangup")
	if e := m.Status().LastError; !strings.Contains(e, "nothing was heard for 30s") {
		t.Fatal(e)
	}
}

func TestNothingDiesWhileTheRelayTalks(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	for range 100 {
		m.now = m.now.Add(10 * time.Second)
		for _, a := range m.Step(link.Received{Conn: 1, Frame: &wire.Pong{}}, m.now) {
			if _, hung := a.(link.Hangup); hung {
				t.Fatal("hung up on a relay that talks")
			}
		}
	}
}

func TestReportsAreConflated(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	a, b := wire.NewKey(wire.KindDevice, "d", "a", ""), wire.NewKey(wire.KindDevice, "d", "b", "")
	for i := range 100 {
		m.want(m.step(link.Reported{Key: a, Body: linktest.Body(i)}), "")
	}
	m.to(10 * time.Millisecond)
	m.want(m.step(link.Tick{}), "send report")
	m.want(m.step(link.Reported{Key: a, Body: linktest.Body(100)}), "")
	m.want(m.step(link.Reported{Key: b, Body: linktest.Body(1)}), "")
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Tick{}), "") // one batch in flight
	acts := m.Step(link.Received{Conn: 1, Frame: &wire.ReportAck{Seq: 1}}, m.now)
	m.want(words(acts), "send report")
	items := acts[0].(link.Send).Frame.(*wire.Report).Items
	if len(items) != 2 || !bytes.Equal(items[0].Body, linktest.Body(100)) {
		t.Fatalf("items %v", items)
	}
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.ReportAck{Seq: 2}}), "")
	m.want(m.step(link.Reported{Key: a, Body: linktest.Body(100)}), "")
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Tick{}), "") // what the relay has is not sent again
	if st := m.Status(); st.ReportsSent != 3 || st.ReportsPending != 0 {
		t.Fatalf("status %+v", st)
	}
}

// TestAskedForWhileInFlight: a document that the relay asks for is sent again although its acknowledgement is still to come: that
// may be for a body which the relay has lost by now.
func TestAskedForWhileInFlight(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	k := wire.NewKey(wire.KindDevice, "d", "a", "")
	m.want(m.step(link.Reported{Key: k, Body: linktest.Body(1)}), "")
	m.to(10 * time.Millisecond)
	m.want(m.step(link.Tick{}), "send report")
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.Want{Keys: []wire.Key{k}}}), "")
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.ReportAck{Seq: 1}}), "send report")
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.ReportAck{Seq: 2}}), "")
	m.want(m.step(link.Reported{Key: k, Body: linktest.Body(1)}), "")
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Tick{}), "")
}

// TestOffers: what was reported in an earlier session is offered by a sum; what changed meanwhile goes at once, and what changes
// before the answer counts.
func TestOffers(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	key := func(name string) wire.Key { return wire.NewKey(wire.KindDevice, "d", name, "") }
	for i, name := range []string{"a", "b", "c", "gone"} {
		m.step(link.Reported{Key: key(name), Body: linktest.Body(i)})
	}
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Tick{}), "send report")
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.ReportAck{Seq: 1}}), "")

	m.want(m.step(link.Lost{Conn: 1, Err: errors.New("x")}), "hangup")
	m.step(link.Withdrawn{Key: key("gone")})
	m.now = m.Wake()
	m.want(m.step(link.Tick{}), "dial 1")
	m.want(m.step(link.Opened{Conn: 2}), "send hello")
	acts := m.Step(link.Received{Conn: 2, Frame: &wire.Welcome{Proto: 1, MaxFrame: 1 << 20, Time: m.now.UnixMilli()}}, m.now)
	m.want(words(acts), "send offer, readoutbox")
	var items []wire.OfferItem
	for i, name := range []string{"a", "b", "c"} {
		items = append(items, wire.OfferItem{Key: key(name), Hash: canon.Hash(linktest.Body(i))})
	}
	if o := firstSent(acts).(*wire.Offer); o.Seq != 1 || wire.Sum(o.Sum) != wire.OfferSum(items) || len(o.Items) != 0 {
		t.Fatalf("offer %+v", o)
	}
	m.want(m.step(link.OutboxRead{Conn: 2}), "")
	if n := m.Status().ReportsPending; n != 3 {
		t.Fatalf("%d pending", n)
	}
	acts = m.Step(link.Received{Conn: 2, Frame: &wire.Want{Seq: 1, List: true}}, m.now)
	m.want(words(acts), "send offer")
	if o := firstSent(acts).(*wire.Offer); o.Seq != 2 || len(o.Sum) != 0 || !slices.Equal(o.Items, items) {
		t.Fatalf("offer %+v", o)
	}
	// b changes and changes back while the list is on its way: its old body is not what the relay has then.
	m.step(link.Reported{Key: key("b"), Body: linktest.Body(100)})
	m.now = m.now.Add(time.Second)
	m.want(m.step(link.Tick{}), "send report")
	m.want(m.step(link.Received{Conn: 2, Frame: &wire.Want{Seq: 2, Keys: []wire.Key{key("a"), key("gone"), key("unknown")}}}), "")
	m.step(link.Reported{Key: key("b"), Body: linktest.Body(1)})
	acts = m.Step(link.Received{Conn: 2, Frame: &wire.ReportAck{Seq: 1}}, m.now.Add(time.Second))
	var sent []wire.Key
	for _, it := range acts[0].(link.Send).Frame.(*wire.Report).Items {
		sent = append(sent, it.Key)
	}
	if !slices.Equal(sent, []wire.Key{key("a"), key("b")}) {
		t.Fatalf("sent %v", sent)
	}
	m.want(m.step(link.Received{Conn: 2, Frame: &wire.ReportAck{Seq: 2}}), "")
	if n := m.Status().ReportsPending; n != 0 {
		t.Fatalf("%d pending", n)
	}
}

func TestProtocolViolationsEndTheSession(t *testing.T) {
	body := linktest.Body(1)
	obj := wire.Object{Key: wire.NewKey(wire.KindConfigMap, "d", "c", ""), Version: wire.BodyVersion("u", body), Body: body}
	forged := obj
	forged.Body = linktest.Body(2)
	raw := obj
	raw.Body = []byte{0xc1}
	raw.Version = wire.BodyVersion("u", raw.Body)
	ghost := wire.Object{Key: obj.Key, Absent: true}
	for name, f := range map[string]wire.Frame{
		"gap in ids":       &wire.CommitPart{ID: 2, Put: []wire.Object{obj}},
		"second part":      &wire.CommitPart{ID: 1, Part: 1, Put: []wire.Object{obj}},
		"wrong hash":       &wire.CommitPart{ID: 1, Put: []wire.Object{forged}},
		"not canonical":    &wire.CommitPart{ID: 1, Put: []wire.Object{raw}},
		"absent version":   &wire.CommitPart{ID: 1, Put: []wire.Object{ghost}},
		"second welcome":   &wire.Welcome{Proto: 1},
		"agent's frame":    &wire.Ack{ID: 1},
		"report not sent":  &wire.ReportAck{Seq: 1},
		"report ack twice": &wire.ReportAck{Seq: 0},
		"offer not made":   &wire.Want{Seq: 1},
	} {
		m, _ := newMachine(t)
		m.up()
		if got := m.step(link.Received{Conn: 1, Frame: f}); got != "send close, hangup" {
			t.Errorf("%s: %q", name, got)
		}
		if e := m.Status().LastError; !strings.Contains(e, "broke the protocol") {
			t.Errorf("%s: last error %q", name, e)
		}
	}
}

// TestCommitOfManyParts: nothing is applied before the last part is there, and what was lost half-way is forgotten.
func TestCommitOfManyParts(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	part := func(i uint32, more bool) *wire.CommitPart {
		body := linktest.Body(int(i))
		return &wire.CommitPart{ID: 1, Part: i, More: more, Rules: 3, Put: []wire.Object{{Key: wire.NewKey(wire.KindConfigMap, "d", fmt.Sprint("c", i), ""), Version: wire.BodyVersion("u", body), Body: body}}}
	}
	m.want(m.step(link.Received{Conn: 1, Frame: part(0, true)}), "")
	m.want(m.step(link.Received{Conn: 1, Frame: part(1, true)}), "")
	acts := m.Step(link.Received{Conn: 1, Frame: part(2, false)}, m.now)
	m.want(words(acts), "apply 1")
	if c := acts[0].(link.Apply).Commit; len(c.Put) != 3 || c.Rules != 3 {
		t.Fatalf("commit %+v", c)
	}
	// The connection breaks while the store works: the next hello waits for it, because it needs the digest.
	m.want(m.step(link.Lost{Conn: 1, Err: errors.New("x")}), "hangup")
	m.now = m.Wake()
	m.want(m.step(link.Tick{}), "dial 1")
	m.want(m.step(link.Opened{Conn: 2}), "")
	m.want(m.step(link.Applied{Conn: 1, ID: 1}), "send hello")
}

// TestRetryAfterIsBounded: a relay with a fault must not park its gateways for weeks.
func TestRetryAfterIsBounded(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.Close{Code: wire.CloseOverloaded, RetryAfter: 1<<32 - 1}}), "hangup")
	if wait := m.Wake().Sub(m.now); wait < time.Hour || wait > 75*time.Minute {
		t.Errorf("it dials again in %v", wait)
	}
}

// TestRefusedDialIsNotRepeatedTooSoon: a relay that answers a dial with Retry-After (HTTP 429 or 503) is not dialled before, nor long
// after.
func TestRefusedDialIsNotRepeatedTooSoon(t *testing.T) {
	m, _ := newMachine(t)
	m.want(m.step(link.Start{}), "dial 0")
	for conn, after := uint64(1), 30*time.Second; conn < 10; conn++ {
		m.step(link.Lost{Conn: conn, Err: errors.New("relay a:1 takes no agents at the moment"), RetryAfter: after})
		if wait := m.Wake().Sub(m.now); wait < after || wait > after*5/4 {
			t.Errorf("attempt %d: it dials again in %v, was told %v", conn, wait, after)
		}
		m.now = m.Wake()
		m.step(link.Tick{})
	}
}

// TestOlderRelayIsLeftForTheNext: a relay whose cache stays behind says nothing about the others; a gateway with one address has to
// wait for it.
func TestOlderRelayIsLeftForTheNext(t *testing.T) {
	for addresses, most := range map[string]time.Duration{"a:1 b:1": time.Second, "a:1": 75 * time.Second} {
		store := linktest.NewStore()
		m := &machine{t: t, now: time.Unix(1_800_000_000, 0), Machine: link.NewMachine(link.Options{
			Addresses: strings.Fields(addresses), Node: "gw", Desired: store, Outbox: store}, 1)}
		m.up()
		m.now = m.now.Add(time.Minute)
		to, after := m.dialled(link.Received{Conn: 1, Frame: &wire.Close{Code: wire.CloseOlderState, RetryAfter: 60_000}})
		if want := strings.Fields(addresses)[len(strings.Fields(addresses))-1]; to != want || after > most || most > time.Minute && after < time.Minute {
			t.Errorf("%s: dialled %s after %v", addresses, to, after)
		}
	}
}

// TestStaleEventsAreIgnored: what an older connection still delivers changes nothing.
func TestStaleEventsAreIgnored(t *testing.T) {
	m, _ := newMachine(t)
	m.up()
	m.want(m.step(link.Lost{Conn: 1, Err: errors.New("x")}), "hangup")
	m.now = m.Wake()
	m.want(m.step(link.Tick{}), "dial 1")
	m.want(m.step(link.Received{Conn: 1, Frame: &wire.Ack{}}), "")
	m.want(m.step(link.Lost{Conn: 1}), "")
	m.want(m.step(link.Opened{Conn: 1}), "")
	m.want(m.step(link.Opened{Conn: 2}), "send hello")
}
