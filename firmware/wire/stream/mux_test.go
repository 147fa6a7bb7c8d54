package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

var epoch = time.Unix(1_800_000_000, 0)

func newMux(agent bool, limits stream.Limits) *stream.Mux {
	return stream.NewMux(stream.Config{Agent: agent, Peer: stream.Pipe, Limits: limits, Serves: func(string) string { return "" }})
}

// all returns every frame that m has now.
func all(m *stream.Mux, now time.Time) (frames []wire.StreamFrame) {
	for f := m.Next(now); f != nil; f = m.Next(now) {
		frames = append(frames, f)
	}
	return frames
}

// open opens a stream from a relay's mux to a peer that is played by the test, which grants window.
func open(t *testing.T, m *stream.Mux, window uint32) *stream.Stream {
	t.Helper()
	s, err := m.Dial("kubelet")
	if err != nil {
		t.Fatal(err)
	}
	frames := all(m, epoch)
	o, ok := frames[len(frames)-1].(*wire.StreamOpen)
	if !ok {
		t.Fatalf("dialling sends %T", frames[len(frames)-1])
	}
	receive(t, m, &wire.StreamAccept{ID: o.ID, Window: window})
	return s
}

func receive(t *testing.T, m *stream.Mux, frames ...wire.StreamFrame) {
	t.Helper()
	for _, f := range frames {
		if _, err := m.Receive(f, epoch); err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
	}
}

func cost(frames []wire.StreamFrame) (n int) {
	for _, f := range frames {
		if d, ok := f.(*wire.StreamData); ok {
			n += len(d.Data) + wire.StreamCost
		}
	}
	return n
}

// TestWindowsBoundWhatIsSent: neither a stream's window nor that of all is exceeded, and a stream that stands still takes nothing of
// what others may send once what it sent has arrived.
func TestWindowsBoundWhatIsSent(t *testing.T) {
	m := newMux(false, stream.Limits{})
	stalled, free := open(t, m, 64<<10), open(t, m, 1<<20)
	fill := func(s *stream.Stream) (sent int) {
		for {
			if n, err := s.Write(make([]byte, 10_000)); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				return sent
			}
			sent += cost(all(m, epoch))
		}
	}
	got := fill(stalled)
	if got > 64<<10 || got < 60<<10 {
		t.Errorf("%d bytes go to a stream with a window of 64 KiB", got)
	}
	got += fill(free)
	if got > stream.Pipe || got < stream.Pipe-4<<10 {
		t.Errorf("%d bytes are under way, %d may be", got, stream.Pipe)
	}
	receive(t, m, &wire.StreamWindow{Bytes: stream.Pipe / 2}) // it has arrived; nobody has read
	again := cost(all(m, epoch)) + fill(free)
	if again < stream.Pipe/2-4<<10 {
		t.Errorf("beside a stream that stands still another gets %d bytes of the %d that came free", again, stream.Pipe/2)
	}
	// What is given back and was not taken is an error, of the stream and of all.
	for _, f := range []wire.StreamFrame{&wire.StreamWindow{ID: 2, Bytes: 65 << 10}, &wire.StreamWindow{Bytes: stream.Pipe + 1}} {
		if _, err := m.Receive(f, epoch); err == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}

// TestStreamsTakeTurns: one that has much to say does not keep another waiting for more than a piece.
func TestStreamsTakeTurns(t *testing.T) {
	m := newMux(false, stream.Limits{})
	a, b := open(t, m, 1<<20), open(t, m, 1<<20)
	if n, err := a.Write(make([]byte, 32<<10)); n != 32<<10 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := b.Write([]byte("ls\n")); err != nil {
		t.Fatal(err)
	}
	var order []uint32
	for _, f := range all(m, epoch) {
		order = append(order, f.Stream())
	}
	if fmt.Sprint(order) != "[2 4 2 2]" {
		t.Errorf("the order is %v", order)
	}
}

// TestWindowIsGivenBackWhenRead: arriving gives back the window of all, reading that of the stream, in large pieces.
func TestWindowIsGivenBackWhenRead(t *testing.T) {
	m := newMux(false, stream.Limits{})
	open(t, m, 64<<10)
	piece := make([]byte, 16_000)
	for range 3 {
		receive(t, m, &wire.StreamData{ID: 2, Data: piece})
	}
	if frames := all(m, epoch); len(frames) != 0 {
		t.Fatalf("nobody has read, and %d bytes are less than a quarter of all: %+v", 3*16_000, frames[0])
	}
	if _, err := m.Receive(&wire.StreamData{ID: 2, Data: piece}, epoch); err == nil {
		t.Fatal("a fourth piece is more than the window")
	}
	m = newMux(false, stream.Limits{})
	s := open(t, m, 64<<10)
	for range 3 {
		receive(t, m, &wire.StreamData{ID: 2, Data: piece})
	}
	buf := make([]byte, 31_000)
	if n, err := s.Read(buf); n != len(buf) || err != nil {
		t.Fatal(n, err)
	}
	if frames := all(m, epoch); len(frames) != 0 {
		t.Fatalf("half a window has not been read: %+v", frames[0])
	}
	if n, err := s.Read(buf[:2000]); n != 2000 || err != nil {
		t.Fatal(n, err)
	}
	frames := all(m, epoch)
	if w, ok := frames[0].(*wire.StreamWindow); len(frames) != 1 || !ok || w.ID != 2 || w.Bytes != 33_000+2*wire.StreamCost {
		t.Fatalf("%d frames, %+v", len(frames), frames[0])
	}
}

// TestDataIsPaced: an end that takes so many bytes a second gives the window of all back at that rate.
func TestDataIsPaced(t *testing.T) {
	const rate = 1 << 20
	m := newMux(false, stream.Limits{BytesPerSecond: rate, Window: 1 << 20})
	s := open(t, m, 64<<10)
	now, taken, allowed := epoch, 0, stream.Pipe
	buf := make([]byte, 64<<10)
	for now.Before(epoch.Add(10 * time.Second)) {
		for allowed >= 16_000+wire.StreamCost {
			if _, err := m.Receive(&wire.StreamData{ID: 2, Data: make([]byte, 16_000)}, now); err != nil {
				t.Fatal(err)
			}
			allowed -= 16_000 + wire.StreamCost
			taken += 16_000
			if _, err := s.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range all(m, now) {
			if w, ok := f.(*wire.StreamWindow); ok && w.ID == 0 {
				allowed += int(w.Bytes)
			}
		}
		if at := m.Wake(); allowed < 16_000+wire.StreamCost {
			if !at.After(now) {
				t.Fatal("nothing is allowed, and nothing will be")
			}
			now = at
			m.Tick(now)
		}
	}
	if most := 11*rate + stream.Pipe; taken > most || taken < 9*rate {
		t.Errorf("%d bytes are taken in 10 s, the rate is %d a second", taken, rate)
	}
	// One that does not wait is cut off.
	var err error
	for range 100 {
		if _, err = m.Receive(&wire.StreamData{ID: 2, Data: make([]byte, 16_000)}, now); err != nil {
			break
		}
		if _, err := s.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	var v *stream.Violation
	if !errors.As(err, &v) || !v.Quota {
		t.Errorf("more than the window of all: %v", err)
	}
}

// TestOpensAreLimited: the rate, the number, and what a refusal costs.
func TestOpensAreLimited(t *testing.T) {
	m := newMux(false, stream.Limits{Streams: 8, OpensPerSecond: 2, FramesPerSecond: 100})
	id, opened, refused := uint32(1), 0, map[string]int{}
	try := func(now time.Time) error {
		out, err := m.Receive(&wire.StreamOpen{ID: id, Service: "cloud", Window: 64 << 10}, now)
		id += 2
		if out.Opened != nil {
			opened++
		}
		if out.Refused != nil {
			refused[out.Refused.Reason]++
			all(m, now)
		}
		return err
	}
	for range 100 {
		if err := try(epoch); err != nil {
			t.Fatal(err)
		}
	}
	if opened != 8 || refused[stream.RefusedStreams] != 92 {
		t.Errorf("%d opened, %v", opened, refused)
	}
	for i := range uint32(8) {
		receive(t, m, &wire.StreamReset{ID: 1 + 2*i, Code: wire.ResetCancelled})
	}
	clear(refused)
	for opened < 20 {
		if err := try(epoch); err != nil {
			t.Fatal(err)
		}
		receive(t, m, &wire.StreamReset{ID: id - 2, Code: wire.ResetCancelled})
	}
	if err := try(epoch); err != nil || refused[stream.RefusedRate] != 1 {
		t.Errorf("%v, %v: the burst of 20 is used up", err, refused)
	}
	if err := try(epoch.Add(time.Second)); err != nil || opened != 21 {
		t.Errorf("%v, %d opened: two more a second", err, opened)
	}
	var err error
	for n := 0; err == nil; n++ {
		if n > 600 {
			t.Fatal("the relay takes any number of frames")
		}
		err = try(epoch.Add(time.Second))
	}
	var v *stream.Violation
	if !errors.As(err, &v) || !v.Quota {
		t.Errorf("a flood of frames: %v", err)
	}
	// Answers that are not taken do not gather without end, whatever the rates.
	m = newMux(false, stream.Limits{OpensPerSecond: -1})
	id = 1
	for err = nil; err == nil; id += 2 {
		_, err = m.Receive(&wire.StreamOpen{ID: id, Service: "cloud", Window: 64 << 10}, epoch)
		if id > 5000 {
			t.Fatal("answers gather without end")
		}
	}
}

// TestClosedStreamDoesNotLinger: its last bytes are kept for a while for a peer that takes nothing, and not longer.
func TestClosedStreamDoesNotLinger(t *testing.T) {
	m := newMux(false, stream.Limits{})
	s := open(t, m, wire.MinStreamWindow)
	if _, err := s.Write(make([]byte, 32<<10)); err != nil {
		t.Fatal(err)
	}
	all(m, epoch)
	s.Close(epoch)
	if m.Stats().Open != 1 {
		t.Fatal("a stream with bytes to send was dropped at once")
	}
	at := m.Wake()
	if at.Sub(epoch) != 15*time.Second {
		t.Fatalf("it lingers for %v", at.Sub(epoch))
	}
	m.Tick(at)
	frames := all(m, at)
	if r, ok := frames[len(frames)-1].(*wire.StreamReset); !ok || r.Code != wire.ResetFailed || m.Stats().Open != 0 {
		t.Errorf("%+v, %d streams", frames, m.Stats().Open)
	}
	if !m.Wake().IsZero() {
		t.Error("there is nothing to wake for")
	}
}

// TestViolations are what no honest peer sends; m is a relay's, stream 2 its own and open.
func TestViolations(t *testing.T) {
	data := func(id uint32) wire.StreamFrame { return &wire.StreamData{ID: id, Data: []byte("x")} }
	for name, frames := range map[string][]wire.StreamFrame{
		"data of a stream that was never opened": {data(3)},
		"data of one that is the relay's own":    {data(4)},
		"a stream with a number of the relay's":  {&wire.StreamOpen{ID: 6, Service: "x", Window: 64 << 10}},
		"a number that was used":                 {&wire.StreamOpen{ID: 3, Service: "x", Window: 64 << 10}, &wire.StreamOpen{ID: 3, Service: "x", Window: 64 << 10}},
		"a number that goes back":                {&wire.StreamOpen{ID: 5, Service: "x", Window: 64 << 10}, &wire.StreamOpen{ID: 3, Service: "x", Window: 64 << 10}},
		"accepted twice":                         {&wire.StreamAccept{ID: 2, Window: 64 << 10}},
		"accepts its own":                        {&wire.StreamOpen{ID: 3, Service: "x", Window: 64 << 10}, &wire.StreamAccept{ID: 3, Window: 64 << 10}},
		"ends twice":                             {&wire.StreamEnd{ID: 2}, &wire.StreamEnd{ID: 2}},
		"data after the end":                     {&wire.StreamEnd{ID: 2}, data(2)},
		"gives back what was not taken":          {&wire.StreamWindow{ID: 2, Bytes: 1}},
		"gives back what nobody took":            {&wire.StreamWindow{Bytes: 1}},
	} {
		m := newMux(false, stream.Limits{})
		s := open(t, m, 64<<10)
		var err error
		for _, f := range frames {
			if err != nil {
				t.Fatalf("%s: %v too early", name, err)
			}
			_, err = m.Receive(f, epoch)
		}
		if err == nil {
			t.Errorf("%s: is taken", name)
		}
		s.Close(epoch)
	}
	m := newMux(false, stream.Limits{})
	if _, err := m.Dial("kubelet"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Receive(data(2), epoch); err == nil {
		t.Error("data before the stream was accepted is taken")
	}
	// Of streams that have ended here the peer may not know yet.
	m = newMux(false, stream.Limits{})
	open(t, m, 64<<10).Reset(wire.ResetCancelled, strings.Repeat("é", 4000))
	for _, f := range all(m, epoch) {
		if _, err := wire.Encode(f); err != nil {
			t.Error(err)
		}
		if r, ok := f.(*wire.StreamReset); !ok || len(r.Reason) > wire.MaxText {
			t.Errorf("%T with a reason that the peer does not take", f)
		}
	}
	receive(t, m, data(2), &wire.StreamWindow{ID: 2, Bytes: 9}, &wire.StreamEnd{ID: 2}, &wire.StreamReset{ID: 2, Code: wire.ResetClosed})
}

// FuzzReceive feeds a relay's mux with arbitrary frames of an agent, read from bytes as the hub reads them. It never panics, never
// holds more than its limits allow, and sends nothing that cannot be decoded.
func FuzzReceive(f *testing.F) {
	seed := func(frames ...wire.StreamFrame) {
		var b []byte
		for _, fr := range frames {
			e, err := wire.Encode(fr)
			if err != nil {
				f.Fatal(err)
			}
			b = append(append(b, byte(len(e))), e...)
		}
		f.Add(b)
	}
	seed(&wire.StreamAccept{ID: 2, Window: 64 << 10}, &wire.StreamData{ID: 2, Data: []byte("hello")}, &wire.StreamEnd{ID: 2})
	seed(&wire.StreamOpen{ID: 1, Service: "cloud", Window: 16 << 10}, &wire.StreamData{ID: 1, Data: []byte("x")}, &wire.StreamReset{ID: 1, Code: 1})
	seed(&wire.StreamReset{ID: 2, Code: wire.ResetService, Reason: "no"}, &wire.StreamWindow{Bytes: 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMux(false, stream.Limits{Streams: 2, OpensPerSecond: 2, FramesPerSecond: 50, BytesPerSecond: 1000})
		own, err := m.Dial("kubelet")
		if err != nil {
			t.Fatal(err)
		}
		streams := []*stream.Stream{own}
		now := epoch
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			frame, err := wire.Decode(b[1 : 1+n])
			b = b[1+n:]
			sf, ok := frame.(wire.StreamFrame)
			if err != nil || !ok {
				continue
			}
			out, err := m.Receive(sf, now)
			if err != nil {
				m.End(err)
				break
			}
			if out.Opened != nil {
				streams = append(streams, out.Opened)
			}
			now = now.Add(time.Millisecond)
			for i, s := range streams {
				_, _ = s.Write([]byte("some"))
				if (len(b)+i)%3 == 0 {
					_, _ = s.Read(make([]byte, 10))
				}
				if (len(b)+i)%17 == 0 {
					s.Close(now)
				}
			}
			for _, f := range all(m, now) {
				e, err := wire.Encode(f)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := wire.Decode(e); err != nil {
					t.Fatalf("sends %+v, which is malformed: %v", f, err)
				}
			}
			if n := m.Stats().Open; n > 3 {
				t.Fatalf("%d streams are open", n)
			}
		}
	})
}
