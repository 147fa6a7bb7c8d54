//go:build integration

package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/hil-tests/fleet"
)

// flowAttempts try to keep the relay busy, or waiting.
func flowAttempts() []attempt {
	return []attempt{
		{"message-flood", tryMessageFlood, ended("limit"), []string{"node=NODE", "messages a second are received"}},
		{"back-at-once", tryBackAtOnce, turnedAway("over-limit"), []string{"node=NODE", "over-limit"}},
		{"byte-flood", tryByteFlood, ended("limit"), []string{"node=NODE", "bytes a second are received"}},
		{"unknown-frame-flood", tryUnknownFlood, ended("limit"), []string{"node=NODE", "a second are received"}},
		{"websocket-ping-flood", tryPingFlood, ended("protocol-error"), []string{"node=NODE", "WebSocket", "ping"}},
		{"entries-without-end", tryEntriesLoop, ended("limit"), []string{"node=NODE", "messages a second are received"}},
		{"hello-again", tryHelloAgain, ended("protocol-error"), []string{"node=NODE", "a second hello"}},
		{"report-flood", tryReportFlood, refused("report-rate"), []string{"node=NODE", "report-rate"}},
		{"event-flood", tryEventFlood, events("paced"), []string{"node=NODE", "more events than one node may store"}},
		{"sessions-without-end", trySessionFlood, turnedAway("session-rate"), []string{"node=NODE", "session-rate"}},
		{"connections-without-identity", tryConnections, turnedAway("too-many-connections"), []string{"127.0.3.1", "too-many-connections"}},
	}
}

// slowAttempts are flowAttempts whose end takes many seconds.
func slowAttempts() []attempt {
	return []attempt{
		{"commits-without-acknowledgement", tryNeverAck, refused("commits-unacknowledged"), []string{"node=NODE", "commits-unacknowledged"}},
		{"slow-frames", trySlowFrame, ended("heartbeat"), []string{"node=NODE", "nothing was heard"}},
		{"slow-connections", trySlowConnections, turnedAway("tls-handshake"), []string{"127.0.3.2", "tls-handshake", "timeout"}},
		{"never-reads", tryNeverRead, refused("commits-unacknowledged"), []string{"node=NODE", "commits-unacknowledged"}},
	}
}

// flood sends b until the relay has had enough.
func flood(t *testing.T, s *Session, b []byte, most int) {
	t.Helper()
	go func() { _, _ = io.Copy(io.Discard, s.Conn) }() // the attacker reads: it is not what this is about
	for n := 0; s.Raw(b) == nil; n++ {
		if n > most {
			t.Errorf("the relay has taken %d messages", n)
			return
		}
	}
}

func encoded(t *testing.T, f wire.Frame) []byte {
	t.Helper()
	b, err := wire.Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	return Frame(Fin|Binary, b)
}

func tryMessageFlood(t *testing.T, r *rig, node string) {
	flood(t, open(t, r.attacker(t, node), node), encoded(t, &wire.Ping{}), 1_000_000)
}

// tryBackAtOnce goes over a quota and comes back for fresh ones.
func tryBackAtOnce(t *testing.T, r *rig, node string) {
	tryMessageFlood(t, r, node)
	s, err := r.attacker(t, node).Link(t.Context())
	if err == nil {
		s.Close()
		t.Fatal("it has another session at once")
	}
	var refusal *ErrHTTP
	if !errors.As(err, &refusal) || refusal.Status != http.StatusTooManyRequests || refusal.RetryAfter == "" {
		t.Errorf("refused with %v", err)
	}
}

func tryByteFlood(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	body := append([]byte{64, 0xc5, 0xff, 0xff}, make([]byte, 65535)...)
	flood(t, s, Frame(Fin|Binary, body), 100_000)
}

// tryUnknownFlood sends frames of a type that a relay must ignore.
func tryUnknownFlood(t *testing.T, r *rig, node string) {
	flood(t, open(t, r.attacker(t, node), node), Frame(Fin|Binary, []byte{100, 0xc0}), 1_000_000)
}

func tryPingFlood(t *testing.T, r *rig, node string) {
	flood(t, open(t, r.attacker(t, node), node), Frame(Fin|Ping, []byte("x")), 1_000_000)
}

// tryEntriesLoop answers compare with entries frames that say that more follow.
func tryEntriesLoop(t *testing.T, r *rig, node string) {
	h := Hello(node)
	d := wire.DigestOf(1, []wire.Entry{{Key: secretKey, Version: wire.Version{UID: "x"}}})
	h.Digest = d.Outline()
	s, err := r.attacker(t, node).Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	flood(t, s, encoded(t, &wire.Entries{More: true}), 1_000_000)
}

func tryHelloAgain(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	send(t, s, Hello(node))
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// tryReportFlood reports on its own node as fast as reports are acknowledged, each time something else, and counts what reaches
// the API.
func tryReportFlood(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	r.register(t, s, node)
	before := r.counters(t)
	began := time.Now()
	seq := uint64(2)
	for ; time.Since(began) < 5*time.Second; seq++ {
		items := make([]wire.ReportItem, 1000)
		for i := range items {
			items[i] = wire.ReportItem{Key: nodeKey(node), Body: document(t, nodeStatus(map[string]any{"phase": fmt.Sprint(seq, "-", i)}))}
		}
		report(t, s, seq, items...)
	}
	c := r.counters(t).Sub(before)
	// A burst of ten seconds' worth, what five seconds allow, and the batch that went over it.
	if n := c["skerry_relay_reports_total"]; n > 500*(10+5+3)+2000 {
		t.Errorf("%v reports were taken in %v", n, time.Since(began))
	}
	if n := c.Sum("skerry_relay_api_requests_total", `resource="nodes/status"`); n > 100 {
		t.Errorf("%v writes of one Node's status in %v", n, time.Since(began))
	}
}

// tryEventFlood puts thousands of events with huge messages into the outbox.
func tryEventFlood(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	before := r.counters(t)
	items := make([]wire.OutboxItem, 400)
	for i := range items {
		items[i] = wire.OutboxItem{Epoch: 1, Seq: uint64(i + 1), Kind: wire.KindOfEvent, Body: event(t, map[string]any{"kind": "Node", "name": node}, honestTime, strings.Repeat("x", 1000))}
	}
	send(t, s, &wire.Outbox{Items: items})
	s.Drain(3*time.Second, true, func(f wire.Frame) bool { _, ok := f.(*wire.OutboxAck); return ok })
	if n := r.counters(t).Sub(before).Sum("skerry_relay_api_requests_total", `resource="events"`); n > 100+10*5 {
		t.Errorf("%v events were stored in some seconds", n)
	}
	// A second batch before the first is stored is not queued.
	_ = s.Send(&wire.Outbox{Items: items[:1]})
	if c := gone(t, s); c != nil && c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// trySessionFlood opens session after session, and counts what that costs the API.
func trySessionFlood(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	before := r.counters(t)
	var refusal *ErrHTTP
	for n := 0; refusal == nil; n++ {
		s, err := a.Link(t.Context())
		if err == nil {
			_ = s.Send(Hello(node))
			s.Close()
		} else if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		if n > 500 {
			t.Fatal("500 sessions were opened")
		}
	}
	if refusal.Status != http.StatusTooManyRequests || refusal.RetryAfter == "" {
		t.Errorf("%d, Retry-After %q", refusal.Status, refusal.RetryAfter)
	}
	if n := r.counters(t).Sub(before).Sum("skerry_relay_api_requests_total", `resource="leases"`); n > 3*70+60 {
		t.Errorf("%v requests about Leases", n)
	}
}

// tryConnections opens more connections than the gate takes, and sends nothing. Somebody at another address gets in.
func tryConnections(t *testing.T, r *rig, node string) {
	a := r.nobody("127.0.3.1")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	most := limits["connecting"].(int)
	for range most + 50 {
		c, err := a.TCP(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	s, err := r.attacker(t, node).Open(t.Context(), Hello(node))
	if err != nil {
		t.Fatalf("an honest gateway is kept out: %v", err)
	}
	s.Close()
}

// tryNeverAck takes its commits and does not acknowledge them.
func tryNeverAck(t *testing.T, r *rig, node string) {
	h := Hello(node)
	h.Heartbeat = 1000
	s, err := r.attacker(t, node).Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r.register(t, s, node)
	commits := map[uint64]bool{}
	for i := range 12 { // seconds
		if i < 8 {
			r.pod(t, node, fmt.Sprintf("%s-%d", node, i))
		}
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			f, err := s.Receive(200 * time.Millisecond)
			if c, ok := f.(*wire.CommitPart); ok {
				commits[c.ID] = true
			}
			if errors.Is(err, ErrSocket) {
				t.Fatalf("the session ended: %v", err)
			}
			send(t, s, &wire.Ping{})
			time.Sleep(100 * time.Millisecond)
		}
	}
	if len(commits) > 4 {
		t.Errorf("%d commits were sent without an acknowledgement", len(commits))
	}
}

// trySlowFrame sends a frame a byte a second.
func trySlowFrame(t *testing.T, r *rig, node string) {
	h := Hello(node)
	h.Heartbeat = 1000
	s, err := r.attacker(t, node).Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	trickle(s, Header(Fin|Binary, 100_000))
	gone(t, s)
}

// trickle sends a byte a second until the relay hangs up, or for a minute.
func trickle(s *Session, begin []byte) {
	_ = s.Raw(begin)
	for range 60 {
		if s.Raw([]byte{0}) != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// trySlowConnections trickles into the TLS handshake, the request's header and a request's body.
func trySlowConnections(t *testing.T, r *rig, _ string) {
	a := r.nobody("127.0.3.2")
	ends := func(c net.Conn, begin string) error {
		defer c.Close()
		s := &Session{Conn: c}
		go trickle(s, []byte(begin))
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, c)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("the relay has kept it open for %v", patience)
		}
		return nil
	}
	inTLS := func(begin string) func(context.Context) error {
		return func(ctx context.Context) error {
			c, err := a.TLS(ctx)
			if err != nil {
				return err
			}
			return ends(c, begin)
		}
	}
	together(t, map[string]func(context.Context) error{
		"before TLS": func(ctx context.Context) error {
			c, err := a.TCP(ctx)
			if err != nil {
				return err
			}
			return ends(c, "\x16\x03\x01\x02\x00")
		},
		"nothing at all":  inTLS(""),
		"in the header":   inTLS("GET " + wire.LinkPath + " HTTP/1.1\r\nHost: x\r\nX: "),
		"in a join body":  inTLS("POST " + join.Path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"),
		"in a renew body": inTLS("POST " + join.RenewPath + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
	})
}

// tryNeverRead has megabytes to be given, and does not read them.
func tryNeverRead(t *testing.T, r *rig, node string) {
	var names []string
	for i := range 8 { // 7 MiB, of which the kernel may take four
		name := fmt.Sprintf("%s-%d", node, i)
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"x": strings.Repeat("x", 900<<10)}}
		if _, err := r.cluster.Core.CoreV1().ConfigMaps(fleet.Namespace).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	a := r.attacker(t, node)
	h := Hello(node)
	h.Heartbeat = 60_000
	c, err := a.TCP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	over, err := a.Over(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := LinkOver(over)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	send(t, s, h)
	if seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.Synced); return ok }); seen.Err != nil || seen.Close != nil {
		t.Fatalf("%v %+v", seen.Err, seen.Close)
	}
	r.pod(t, node, node, names...) // from here on it reads nothing
	before := r.counters(t)
	r.told(t, node, "commits-unacknowledged")
	// The window holds about a mebibyte and one commit, which the kernel's buffers take; nothing more is written.
	if n := r.counters(t).Sub(before)["skerry_relay_bytes_sent_total"]; n > 4<<20 {
		t.Errorf("%.1f MiB were written to an agent that reads nothing", n/(1<<20))
	}
}
