//go:build integration

package attack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
)

// exhaustAttempts try to make the relay take memory.
func exhaustAttempts() []attempt {
	return []attempt{
		{"declared-lengths", tryDeclaredLengths, ended("protocol-error"), []string{"node=NODE", "malformed frame"}},
		{"nested-values", tryNested, ended("protocol-error"), []string{"node=NODE", "nested"}},
		{"message-over-the-limit", tryLargeMessage, ended("limit"), []string{"node=NODE", "larger than the limit"}},
		{"endless-fragments", tryFragments, ended("limit"), []string{"node=NODE", "larger than the limit"}},
		{"empty-fragments", tryEmptyFragments, ended("protocol-error"), []string{"node=NODE", "WebSocket"}},
		{"compression-bomb", tryCompression, ended("protocol-error"), []string{"node=NODE", "reserved bits"}},
		{"claims-of-holdings", tryHoldings, ended("limit"), []string{"node=NODE", "holds more than"}},
		{"streams-without-end", tryStreams, refused("stream-rate"), []string{"node=NODE", "reason=stream-rate"}},
		{"streams-to-nowhere", tryUnknownService, refused("stream-service"), []string{"node=NODE", "reason=stream-service"}},
		{"stream-frame-flood", tryStreamFlood, ended("limit"), []string{"node=NODE", "frames of streams a second"}},
		{"stream-data-unasked", tryStreamData, ended("protocol-error"), []string{"node=NODE", "never opened"}},
		{"stream-data-beyond-the-window", tryStreamWindow, ended("limit"), []string{"node=NODE", "more data of streams"}},
		{"stream-frames-unknown", tryUnknownStreams, ended("protocol-error"), []string{"node=NODE", "unknown frame type"}},
		{"giant-keys", tryGiantKeys, ended("protocol-error"), []string{"node=NODE", "a key of 100000 bytes"}},
		{"invalid-text", tryInvalidText, ended("protocol-error"), []string{"node=NODE", "UTF-8"}},
		{"forged-log-lines", tryForgedLines, ended("protocol-error"), []string{"node=NODE", "FORGED"}},
		{"http-header-bomb", tryHeaderBomb, turnedAway("no-request"), []string{"127.0.1.1", "no-request"}},
		{"http-body-bomb", tryBodyBomb, certificates("bad_request"), []string{"127.0.1.2", "larger than 16384 bytes"}},
	}
}

// tryDeclaredLengths sends frames whose MessagePack says that gigabytes follow.
func tryDeclaredLengths(t *testing.T, r *rig, node string) {
	huge := binary.BigEndian.AppendUint32(nil, 1<<32-1)
	a := r.attacker(t, node)
	for what, head := range map[string][]byte{"array": {0xdd}, "map": {0xdf}, "string": {0xdb}, "bytes": {0xc6}, "extension": {0xc9}} {
		for _, typ := range []wire.FrameType{wire.TypeReport, wire.TypeOutbox} {
			s := open(t, a, node)
			value := append(append([]byte{}, head...), huge...)
			body := append([]byte{byte(typ), 0x81, 0xa1, 'i'}, value...)
			if err := s.Raw(Frame(Fin|Binary, body)); err != nil {
				t.Fatal(err)
			}
			if c := closed(t, s); c.Code != wire.CloseProtocol {
				t.Errorf("%s of 4 GiB in a %v frame: %v: %s", what, typ, c.Code, c.Reason)
			}
			s.Close()
		}
	}
}

// tryNested sends a status document of thousands of lists in each other.
func tryNested(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	body := append(bytes.Repeat([]byte{0x91}, 100_000), 0xc0)
	send(t, s, &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: nodeKey(node), Body: body}}})
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// tryLargeMessage declares a message of a tebibyte, and, as another node, of a byte more than is taken.
func tryLargeMessage(t *testing.T, r *rig, node string) {
	for name, n := range map[string]uint64{node: 1 << 40, node + "-by-one": 512<<10 + 1} {
		s := open(t, r.attacker(t, name), name)
		if err := s.Raw(Header(Fin|Binary, n)); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
	}
}

// tryFragments sends a message that never ends, in fragments.
func tryFragments(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	part := make([]byte, 16<<10)
	err := s.Raw(Frame(Binary, part))
	for n := 0; err == nil; n++ {
		if n > 1000 {
			t.Fatalf("the relay has taken %d MiB of one message", n*len(part)>>20)
		}
		err = s.Raw(Frame(Continuation, part))
	}
	gone(t, s)
}

// tryEmptyFragments sends a message of millions of fragments without content.
func tryEmptyFragments(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	many := bytes.Repeat(Frame(Continuation, nil), 10_000)
	err := s.Raw(Frame(Binary, nil))
	for n := 0; err == nil; n++ {
		if n > 1000 {
			t.Fatalf("the relay has read %d fragments of one message", n*10_000)
		}
		err = s.Raw(many)
	}
	gone(t, s)
}

// tryCompression asks for compression, which the relay must not agree to, and sends a compressed message all the same.
func tryCompression(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	s, err := a.Link(t.Context(), "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if x := s.Header.Get("Sec-Websocket-Extensions"); x != "" {
		t.Errorf("the relay agrees to %q", x)
	}
	if err := s.Raw(Frame(Fin|Compressed|Binary, []byte{0xca, 0x04, 0x00})); err != nil {
		t.Fatal(err)
	}
	gone(t, s)
}

// tryHoldings claims to hold more objects than anybody does.
func tryHoldings(t *testing.T, r *rig, node string) {
	h := Hello(node)
	d := wire.DigestOf(1, []wire.Entry{{Key: secretKey, Version: wire.Version{UID: "x"}}})
	for i := range 500 { // all buckets
		d.Toggle(wire.Entry{Key: wire.NewKey(wire.KindConfigMap, "x", fmt.Sprint(i), ""), Version: wire.Version{UID: "x"}})
	}
	h.Digest = d.Outline()
	s, err := r.attacker(t, node).Open(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.Compare); return ok })
	if seen.Err != nil || len(seen.Frames) == 0 {
		t.Fatalf("%+v", seen)
	}
	asked := seen.Frames[len(seen.Frames)-1].(*wire.Compare).Buckets
	items := []wire.EntryItem{}
	for i := 0; ; i++ {
		if k := wire.NewKey(wire.KindConfigMap, "x", fmt.Sprint(i), ""); asked.Has(k.Bucket()) {
			items = append(items, wire.EntryItem{Key: k, Version: wire.Version{UID: "x"}})
		}
		if len(items) == 5000 {
			if s.Send(&wire.Entries{Entries: items, More: true}) != nil {
				break
			}
			items = items[:0]
		}
		if i > 10_000_000 {
			t.Fatal("the relay takes millions of claims")
		}
	}
	gone(t, s)
}

// tryStreams opens streams and resets them, and opens others: more than the relay lets one gateway open. Each is answered.
func tryStreams(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	const many = 300
	go func() {
		for i := range uint32(many) {
			if s.Send(&wire.StreamOpen{ID: 2*i + 1, Service: wire.ServiceCloud, Window: 64 << 10}) != nil ||
				s.Send(&wire.StreamReset{ID: 2*i + 1, Code: wire.ResetCancelled}) != nil {
				return
			}
		}
	}()
	refused := 0
	seen := s.Drain(patience, true, func(f wire.Frame) bool {
		if reset, ok := f.(*wire.StreamReset); ok && reset.Code == wire.ResetLimit {
			refused++
		}
		return refused == many/2
	})
	if seen.Close != nil || seen.Err != nil {
		t.Errorf("%d streams are refused, then %+v, %v", refused, seen.Close, seen.Err)
	}
}

// tryUnknownService opens streams to what the relay does not serve to gateways.
func tryUnknownService(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	for i, service := range []string{"kubelet", "admin", "localhost"} {
		send(t, s, &wire.StreamOpen{ID: uint32(2*i + 1), Service: service, Window: 64 << 10})
		seen := s.Drain(patience, true, func(f wire.Frame) bool {
			reset, ok := f.(*wire.StreamReset)
			return ok && reset.Code == wire.ResetService
		})
		if seen.Close != nil || seen.Err != nil {
			t.Errorf("%s: %+v, %v", service, seen.Close, seen.Err)
		}
	}
}

// tryStreamFlood sends frames of streams that carry nothing.
func tryStreamFlood(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	send(t, s, &wire.StreamOpen{ID: 1, Service: "nowhere", Window: 64 << 10})
	for range 100_000 {
		if s.Send(&wire.StreamReset{ID: 1, Code: wire.ResetCancelled}) != nil {
			break
		}
	}
	gone(t, s)
}

// tryStreamData sends data of a stream that nobody opened.
func tryStreamData(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	send(t, s, &wire.StreamData{ID: 7, Data: []byte("x")})
	gone(t, s)
}

// tryStreamWindow sends data of a stream that has ended, without end: more than may be under way.
func tryStreamWindow(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	send(t, s, &wire.StreamOpen{ID: 1, Service: "nowhere", Window: 64 << 10})
	for range 10_000 {
		if s.Send(&wire.StreamData{ID: 1, Data: make([]byte, wire.MaxStreamData)}) != nil {
			break
		}
	}
	gone(t, s)
}

// tryUnknownStreams sends frames whose types are kept for streams and mean nothing.
func tryUnknownStreams(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	for range 1000 {
		if s.Raw(Frame(Fin|Binary, []byte{63, 0x80})) != nil {
			break
		}
	}
	gone(t, s)
}

// tryGiantKeys reports on an object with a name of 100 kB.
func tryGiantKeys(t *testing.T, r *rig, node string) {
	s := open(t, r.attacker(t, node), node)
	key := "devices/default/"
	key += strings.Repeat("x", 100_000-len(key))
	send(t, s, &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: wire.Key(key), Body: document(t, map[string]any{})}}})
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// tryInvalidText sends what is not UTF-8, in a name, in a status document, in an event.
func tryInvalidText(t *testing.T, r *rig, node string) {
	a := r.attacker(t, node)
	s, err := a.Link(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := Hello(node)
	h.Agent = "\xff\xfe"
	send(t, s, h)
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
	s = open(t, a, node)
	send(t, s, &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: nodeKey(node), Body: []byte{0x81, 0xa2, 0xff, 0xfe, 0xc0}}}})
	if c := closed(t, s); c.Code != wire.CloseProtocol {
		t.Errorf("ended with %v: %s", c.Code, c.Reason)
	}
}

// tryForgedLines puts line breaks and a line of the relay's own form wherever a text of the agent may reach the log.
func tryForgedLines(t *testing.T, r *rig, node string) {
	const forged = "\ntime=2026-01-01T00:00:00Z level=INFO msg=FORGED node=gw-00001\r\n\x1b[2K"
	a := r.attacker(t, node)
	from := r.logSize(t)
	for what, f := range map[string]wire.Frame{
		"name": &wire.Hello{ProtoMin: 1, ProtoMax: 1, Node: "x" + forged, Heartbeat: 15_000, MaxFrame: wire.MaxFrame, Rules: 1},
		"key":  &wire.Report{Seq: 1, Items: []wire.ReportItem{{Key: wire.Key("devices/default/x" + forged), Body: []byte{0x80}}}},
		"bye":  &wire.Close{Code: wire.CloseInternal, Reason: "x" + forged},
	} {
		s, err := a.Link(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if what != "name" {
			send(t, s, Hello(node))
		}
		send(t, s, f)
		gone(t, s)
		s.Close()
	}
	s := open(t, a, node)
	event := document(t, map[string]any{"ref": map[string]any{"kind": "Node", "name": "x" + forged}, "type": "FORGED" + forged, "time": forged, "message": forged, "reason": forged})
	send(t, s, &wire.Outbox{Items: []wire.OutboxItem{{Epoch: 1, Seq: 1, Kind: "x" + forged, Body: event}, {Epoch: 1, Seq: 2, Kind: wire.KindOfEvent, Body: event}}})
	s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.OutboxAck); return ok })
	for line := range strings.Lines(r.logFrom(t, from)) {
		if strings.HasPrefix(line, "time=2026-01-01T00:00:00Z") || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\x1b\x00") {
			t.Errorf("the attacker wrote a line of the log: %q", line)
		}
	}
}

// tryHeaderBomb sends a request whose header does not end.
func tryHeaderBomb(t *testing.T, r *rig, _ string) {
	c, err := r.nobody("127.0.1.1").TLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &Session{Conn: c}
	err = s.Raw([]byte("GET " + wire.LinkPath + " HTTP/1.1\r\nHost: x\r\n"))
	for n := 0; err == nil; n++ {
		if n > 20_000 { // of which the kernel holds some
			t.Fatalf("the relay has read %d KiB of a header", n)
		}
		err = s.Raw([]byte("X: " + strings.Repeat("a", 1020) + "\r\n"))
	}
}

// tryBodyBomb sends bodies that are too large, and one that never ends, to the endpoints that need no certificate.
func tryBodyBomb(t *testing.T, r *rig, _ string) {
	a := r.nobody("127.0.1.2")
	for _, path := range []string{join.Path, join.RenewPath} {
		for _, length := range []string{"Content-Length: 1099511627776", "Transfer-Encoding: chunked"} {
			c, err := a.TLS(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s := &Session{Conn: c}
			err = s.Raw([]byte("POST " + path + " HTTP/1.1\r\nHost: x\r\n" + length + "\r\n\r\n"))
			chunk := []byte("1000\r\n" + strings.Repeat("{", 4096) + "\r\n")
			sent := 0
			for began := time.Now(); err == nil && time.Since(began) < patience; sent += len(chunk) {
				err = s.Raw(chunk)
			}
			_ = c.Close()
			if err == nil {
				t.Errorf("%s, %s: the relay has read %d MiB", path, length, sent>>20)
			}
		}
	}
}
