package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
)

// simulated is one end of a simulated stream: what it wrote, and what it has read.
type simulated struct {
	s          *stream.Stream
	out        []byte // to write
	written    int
	read       []byte
	eof        bool
	err        error
	ended, cut bool // by this end: in order, or not
}

// TestSimulation drives two muxes with random orders of events: frames are delayed, readers stop, streams are opened, half-closed,
// closed and reset. What is read is a prefix of what was written, all of it if the end came in order, and in the end nothing is left.
func TestSimulation(t *testing.T) {
	for seed := range uint64(60) {
		simulate(t, seed)
	}
}

func simulate(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	now := epoch
	var mux [2]*stream.Mux
	for i := range mux {
		mux[i] = newMux(i == 0, stream.Limits{Streams: 4, OpensPerSecond: -1, Window: 16 << 10})
	}
	var flying [2][]wire.StreamFrame
	type both [2]*simulated
	var streams [100]*both // by number
	scratch := make([]byte, 20_000)
	byID := func(i int, id uint32, s *stream.Stream) {
		b := streams[id]
		if b == nil {
			b = &both{}
			streams[id] = b
		}
		out := make([]byte, r.IntN(50_000))
		rand.NewChaCha8([32]byte{byte(id), byte(i), byte(seed)}).Read(out) //nolint:errcheck // never fails
		b[i] = &simulated{s: s, out: out}
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("seed %d: %s", seed, fmt.Sprintf(format, args...))
	}
	deliver := func(i int) { // to mux i
		f := flying[i][0]
		flying[i] = flying[i][1:]
		out, err := mux[i].Receive(f, now)
		if err != nil {
			fail("%T: %v", f, err)
		}
		if out.Opened != nil {
			byID(i, f.Stream(), out.Opened)
		}
	}
	use := func(x *simulated) {
		if open, err := x.s.Opened(); !open || err != nil {
			return
		}
		switch k := r.IntN(100); {
		case k < 45 && !x.ended && !x.cut:
			n, err := x.s.Write(x.out[x.written:min(len(x.out), x.written+1+r.IntN(20_000))])
			x.written += n
			if err == nil && x.written == len(x.out) {
				x.s.CloseWrite()
				x.ended = true
			}
		case k < 90:
			buf := scratch[:1+r.IntN(len(scratch))]
			n, err := x.s.Read(buf)
			x.read = append(x.read, buf[:n]...)
			if errors.Is(err, io.EOF) {
				x.eof = true
			} else if err != nil {
				x.err = err
			}
		case k < 91 && !x.cut:
			x.s.Close(now)
			x.cut = true
		case k < 92 && !x.cut:
			x.s.Reset(wire.ResetFailed, "by chance")
			x.cut = true
		}
	}
	opened := 0
	for step := 0; step < 3000; step++ {
		i := r.IntN(2)
		switch k := r.IntN(100); {
		case k < 3 && opened < 12:
			if s, err := mux[i].Dial("x"); err == nil {
				for _, f := range all(mux[i], now) {
					flying[1-i] = append(flying[1-i], f)
					if o, ok := f.(*wire.StreamOpen); ok {
						byID(i, o.ID, s)
					}
				}
				opened++
			}
		case k < 30:
			if f := mux[i].Next(now); f != nil {
				flying[1-i] = append(flying[1-i], f)
			}
		case k < 60:
			if len(flying[i]) > 0 {
				deliver(i)
			}
		case k < 61:
			now = now.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
			mux[i].Tick(now)
		default:
			for _, b := range streams {
				if b != nil && b[i] != nil && r.IntN(2) == 0 {
					use(b[i])
				}
			}
		}
	}
	// Then all calms down: everything is written, read, delivered and closed.
	for range 200 {
		for i := range 2 {
			for _, b := range streams {
				if b != nil && b[i] != nil {
					for range 3 {
						use(b[i])
					}
				}
			}
			flying[1-i] = append(flying[1-i], all(mux[i], now)...)
			for len(flying[i]) > 0 {
				deliver(i)
			}
		}
	}
	for id, b := range streams {
		for i := range 2 {
			if b == nil || b[i] == nil || b[1-i] == nil {
				continue // refused, or cut before the other end heard of it
			}
			x, peer := b[i], b[1-i]
			if !bytes.HasPrefix(peer.out, x.read) {
				fail("stream %d: what is read is not what was written", id)
			}
			if peer.ended && !peer.cut && !x.cut && (!x.eof || len(x.read) != len(peer.out)) {
				fail("stream %d: the peer ended in order, and %d of %d bytes were read, %v, %t", id, len(x.read), len(peer.out), x.err, x.eof)
			}
			if x.eof && !peer.ended && !peer.cut {
				fail("stream %d: an end that the peer did not make", id)
			}
		}
	}
	for _, b := range streams {
		for i := range 2 {
			if b != nil && b[i] != nil {
				b[i].s.Close(now)
			}
		}
	}
	for range 10 {
		for i := range 2 {
			flying[1-i] = append(flying[1-i], all(mux[i], now)...)
			for len(flying[i]) > 0 {
				deliver(i)
			}
		}
	}
	for i := range 2 {
		if n := mux[i].Stats().Open; n != 0 {
			fail("%d streams are left", n)
		}
	}
}
