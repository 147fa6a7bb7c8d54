package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestDeclaredSize: what a packet declares is judged before it is read, in the first packet and in later ones.
func TestDeclaredSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, first := range []byte{0x10, 0x30} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.broker.Addr(KindTCP).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(append(binary.AppendUvarint([]byte{first}, 256<<20-1), make([]byte, 100)...)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 {
			t.Errorf("0x%x: %d bytes came back", first, n)
		}
	}
	app := w.as("app", hello{})
	if _, err := app.conn.Write(append(binary.AppendUvarint([]byte{0x30}, 256<<20-1), make([]byte, 100)...)); err != nil {
		t.Fatal(err)
	}
	if err := app.ended(); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MB were allocated", grown>>20)
	}
	again := w.as("app", hello{})
	again.publish("plant/x", bytes.Repeat([]byte("x"), w.opt.Limits.Payload), 1, false) // what is allowed passes
	again.publish("plant/x", bytes.Repeat([]byte("x"), w.opt.Limits.Payload+1), 0, false)
	if err := again.ended(); err != nil {
		t.Error(err)
	}
}

// TestNeverReading: a subscriber that reads nothing loses its own messages, and holds nobody up.
func TestNeverReading(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	mute := w.as("app", hello{id: "mute"})
	mute.subscribe("plant/#", 1)
	good := w.as("app", hello{id: "good"})
	good.subscribe("plant/last", 1)
	from := w.as("app", hello{id: "from"})
	payload := bytes.Repeat([]byte("x"), 32<<10)
	for range 400 { // 12 MB, each acknowledged to the one who publishes
		from.publish("plant/x", payload, 1, false)
	}
	from.publish("plant/last", []byte("end"), 1, false)
	if m := good.message(); string(m.Payload) != "end" {
		t.Errorf("got %q", m.Payload)
	}
	if s := w.broker.Stats(); s.DroppedQueue+s.DroppedInflight == 0 {
		t.Errorf("nothing was counted as dropped: %+v", s)
	}
}

// TestStorm: connections that say nothing take the places of strangers from one source, and no more.
func TestStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	app := w.as("app", hello{})
	for range 200 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.broker.Addr(KindTCP).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	w.eventually("most are refused", func() bool { return w.broker.Stats().RefusedConnections >= 200-strangersPerSource })
	app.publish("plant/x", []byte("1"), 1, false)
	if _, code := dial(t, "unix", w.opt.Listeners[1].Address, hello{id: "u", user: "other", password: "other secret"}); code != 0 {
		t.Errorf("over the socket: %d", code)
	}
	if n := w.broker.Stats().Connections; n > strangersPerSource+2 {
		t.Errorf("%d connections are open", n)
	}
}

func TestLimitsOfAClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Limits.Subscriptions, o.Limits.SessionsPerIdentity, o.Limits.Retained = 3, 2, 1000 })
	app := w.as("app", hello{})
	for i := range 5 {
		if code := app.subscribe(fmt.Sprintf("plant/%d", i), 0); (code == 0) != (i < 3) {
			t.Errorf("subscription %d: %d", i, code)
		}
	}
	if code := app.subscribe("plant/1", 1); code != 1 {
		t.Errorf("one that it has: %d", code)
	}
	w.as("app", hello{id: "second"})
	if _, code := dial(t, "tcp", w.broker.Addr(KindTCP).String(), hello{id: "third", user: "app", password: "app secret"}); code == 0 {
		t.Error("a third session was given")
	}
	for i := range 10 { // those that have ended do not count
		c := w.as("other", hello{id: fmt.Sprint("short", i)})
		_ = c.conn.Close()
		w.eventually("it has ended", func() bool { return w.broker.Stats().Connections == 2 })
	}
	app.publish("plant/r/1", bytes.Repeat([]byte("x"), 600), 1, true)
	app.publish("plant/r/2", bytes.Repeat([]byte("x"), 600), 1, true)
	app.publish("$hw/events/device/default/pump/twin/get", nil, 1, true)
	app.publish("$hw/events/device/default/pump/twin/get", []byte("{}"), 1, true)
	s := w.broker.Stats()
	if s.DroppedRetained != 1 || s.RetainedBytes > 1000 || s.RetainedBytes < 600 {
		t.Errorf("%+v", s)
	}
	app.publish("plant/r/1", nil, 1, true)
	if s := w.broker.Stats(); s.RetainedBytes != 0 {
		t.Errorf("%d bytes are retained", s.RetainedBytes)
	}
}

// TestPace: who sends faster than allowed is read more slowly.
func TestPace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Limits.MessagesPerSecond = 10 })
	app := w.as("app", hello{})
	began := time.Now()
	for range 40 {
		app.publish("plant/x", []byte("1"), 1, false)
	}
	if took := time.Since(began); took < 1500*time.Millisecond { // 40, less a burst of 20 and the CONNECT
		t.Errorf("40 messages in %v", took)
	}
}

// TestRestart: sessions with their messages, and retained messages, survive.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, v := range []byte{4, 5} {
		id := fmt.Sprint("keeper", v)
		c := w.as("app", hello{id: id, keep: true, v: v})
		c.subscribe(fmt.Sprintf("plant/%d/#", v), 2)
		_ = c.conn.Close()
	}
	fleeting := w.as("app", hello{id: "fleeting"})
	fleeting.subscribe("plant/#", 1)
	from := w.as("app", hello{id: "from"})
	for _, topic := range []string{"plant/4/x", "plant/5/x"} {
		for i := range 5 {
			from.publish(topic, fmt.Append(nil, i), 1+byte(i%2), false)
		}
	}
	from.publish("plant/kept", []byte("retained"), 1, true)
	from.publish("plant/gone", []byte("retained"), 1, true)
	from.publish("plant/gone", nil, 1, true)
	half := w.as("app", hello{id: "half", keep: true})
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2}, ProtocolVersion: 4, TopicName: "plant/4/once", Payload: []byte("once"), PacketID: 77}
	half.send(pk.PublishEncode)
	half.await(packets.Pubrec) // and no PUBREL
	w.restart()

	half = w.as("app", hello{id: "half", keep: true})
	half.await(packets.Pubrec) // it is sent again
	half.send(pk.PublishEncode)
	half.await(packets.Pubrec)
	rel := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, ProtocolVersion: 4, PacketID: 77}
	half.send(rel.PubrelEncode)
	half.await(packets.Pubcomp)
	for _, v := range []byte{4, 5} {
		c := w.as("app", hello{id: fmt.Sprint("keeper", v), keep: true, v: v})
		got := make(map[string]int)
		for range 5 {
			m := c.message()
			got[m.TopicName+"="+string(m.Payload)]++
		}
		if v == 4 {
			m := c.message()
			got[m.TopicName+"="+string(m.Payload)]++
			if got["plant/4/once=once"] != 1 {
				t.Errorf("the message in the middle of QoS 2: %v", got)
			}
		}
		for i := range 5 {
			if got[fmt.Sprintf("plant/%d/x=%d", v, i)] != 1 {
				t.Errorf("MQTT %d: %v", v, got)
			}
		}
	}
	app := w.as("app", hello{id: "new"})
	app.subscribe("plant/+", 0)
	if m := app.message(); m.TopicName != "plant/kept" || !m.FixedHeader.Retain {
		t.Errorf("retained: %s %q", m.TopicName, m.Payload)
	}
}

// TestNothingIsLeft: what was kept is gone when it is not needed any more, and damaged records cost themselves alone.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := w.as("app", hello{id: "kept", keep: true})
	c.subscribe("plant/#", 1)
	_ = c.conn.Close()
	from := w.as("app", hello{id: "from"})
	from.publish("plant/x", []byte("1"), 1, true)
	w.eventually("session, message and retained message are kept", func() bool { return w.records.len() == 3 })
	if n := w.broker.Stats().KeptBytes; n < 100 || n > 2000 {
		t.Errorf("%d bytes are kept", n)
	}
	if err := w.records.CommitLazy([]Record{{"s/zz", []byte("{")}, {"m/x", []byte(`{"k":3}`)}, {"other", []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if s := w.broker.Stats(); s.Damaged != 3 || s.Sessions != 1 || w.records.len() != 3 {
		t.Errorf("%+v, %d records", s, w.records.len())
	}
	w.as("app", hello{id: "kept"}) // a clean session takes its place
	from = w.as("app", hello{id: "from"})
	from.publish("plant/x", nil, 1, true)
	w.eventually("nothing is kept", func() bool { return w.records.len() == 0 })
	if s := w.broker.Stats(); s.KeptBytes != 0 || s.RetainedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

// TestKeptIsBounded: what does not fit is not written.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.Limits.Kept = 4000 })
	c := w.as("app", hello{id: "kept", keep: true})
	c.subscribe("plant/#", 1)
	_ = c.conn.Close()
	w.eventually("it has left", func() bool { return w.broker.Stats().Connections == 0 })
	from := w.as("app", hello{id: "from"})
	for range 20 {
		from.publish("plant/x", []byte(strings.Repeat("x", 500)), 1, false)
	}
	w.eventually("some were not written", func() bool { return w.broker.Stats().Unsaved > 0 })
	if s := w.broker.Stats(); s.KeptBytes > 4000 {
		t.Errorf("%+v", s)
	}
}
