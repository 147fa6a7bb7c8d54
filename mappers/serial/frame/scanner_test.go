package frame

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// push gives a stream to a scanner in pieces of at most n bytes and returns the payloads.
func push(s *Scanner, stream []byte, n int) []string {
	var out []string
	emit := func(p []byte) { out = append(out, string(p)) }
	for len(stream) > 0 {
		k := min(n, len(stream))
		s.Push(stream[:k], emit)
		stream = stream[k:]
	}
	return out
}

func algorithm(name string) Algorithm {
	a, err := Find(name)
	if err != nil {
		panic(err)
	}
	return a
}

func formats() map[string]Format {
	crc := Checksum{Algorithm: algorithm("CRC-16/MODBUS"), Little: true}
	return map[string]Format{
		"lines":           {Kind: Delimited, Delimiter: []byte("\r\n"), Max: 40},
		"lines with sum":  {Kind: Delimited, Delimiter: []byte("\n"), Max: 40, Checksum: Checksum{Algorithm: algorithm("lrc"), Hex: true}},
		"fixed":           {Kind: Fixed, Length: 8, Max: 40},
		"fixed, synced":   {Kind: Fixed, Start: []byte("\xAA\x55"), Length: 8, Max: 40, Checksum: crc},
		"counted":         {Kind: Counted, Offset: 1, Size: 2, Little: true, Start: []byte("\x68"), Max: 40, Checksum: crc, Adjust: 2},
		"counted, plain":  {Kind: Counted, Size: 1, Adjust: -1, Max: 40},
		"gap":             {Kind: Gap, Max: 40, Checksum: crc},
		"STX ETX":         {Kind: StartStop, Start: []byte{2}, Stop: []byte{3}, Max: 40},
		"STX ETX escaped": {Kind: StartStop, Start: []byte{0x7E}, Stop: []byte{0x7E ^ 1}, Escaped: true, Escape: 0x7D, EscapeXor: 0x20, Max: 40, Checksum: crc},
		"HDLC-like":       {Kind: StartStop, Start: []byte{0x7E}, Stop: []byte{0x7E}, Escaped: true, Escape: 0x7D, EscapeXor: 0x20, Max: 40, Checksum: crc},
		"DLE STX":         {Kind: StartStop, Start: []byte{0x10, 2}, Stop: []byte{0x10, 3}, Escaped: true, Escape: 0x10, Max: 40, Checksum: crc},
		"SLIP":            {Kind: SLIP, Max: 40},
		"SLIP with CRC":   {Kind: SLIP, Max: 40, Checksum: Checksum{Algorithm: algorithm("CRC-8/MAXIM-DOW")}},
	}
}

// sample is a payload that a format can carry; Encode may still refuse it.
func sample(f *Format, r *rand.Rand) []byte {
	p := make([]byte, 1+r.IntN(12))
	for i := range p {
		p[i] = byte(r.IntN(256))
		if r.IntN(3) == 0 {
			p[i] = []byte{0x10, 0x7D, 0x7E, 0xC0, 0xDB, 2, 3}[r.IntN(7)] // what needs an escape somewhere
		}
	}
	switch f.Kind {
	case Fixed:
		p = append(p, make([]byte, 16)...)[:f.Length-f.Checksum.size()]
	case Counted:
		p = append(make([]byte, f.Offset+f.Size), p...)
	case Delimited, Gap, StartStop, SLIP:
	}
	copy(p, f.Start[:min(len(f.Start), len(p))])
	return p
}

// TestWhatIsEncodedIsFound: whatever the pieces in which a stream arrives, its frames come out once and in order.
func TestWhatIsEncodedIsFound(t *testing.T) {
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				var stream []byte
				var want, got []string
				s := NewScanner(f)
				for range 1 + r.IntN(5) {
					p := sample(&f, r)
					out, err := f.Encode(p)
					if err != nil {
						continue // a delimiter within the text
					}
					if f.Kind == Counted { // Encode fills the length in
						copy(p, out[:f.Offset+f.Size])
					}
					want = append(want, string(p))
					stream = append(stream, out...)
					if f.Kind == Gap {
						got = append(got, push(s, stream, 1+r.IntN(7))...)
						s.Silence(func(p []byte) { got = append(got, string(p)) })
						stream = nil
					}
				}
				got = append(got, push(s, stream, 1+r.IntN(7))...)
				if !slices.Equal(got, want) {
					t.Fatalf("got %q, want %q", got, want)
				}
				if st := s.Stats(); st.Frames != uint64(len(want)) || st.Checksum+st.TooLong+st.Cut+st.Garbage != 0 {
					t.Fatalf("%+v", st)
				}
			}
		})
	}
}

// TestFramesAfterGarbage: noise costs at most the frames that it touches, and it is counted.
func TestFramesAfterGarbage(t *testing.T) {
	for name, f := range formats() {
		if name == "fixed" || name == "counted, plain" {
			continue // nothing in them tells a frame from noise but silence
		}
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for round := range 200 {
				s := NewScanner(f)
				p := bytes.Repeat([]byte("ok"), 8)[:max(1, min(8, f.Length-f.Checksum.size()))]
				if f.Kind == Counted {
					p = append(make([]byte, f.Offset+f.Size), p...)
				}
				copy(p, f.Start[:min(len(f.Start), len(p))])
				good, err := f.Encode(p)
				if err != nil {
					t.Fatal(err)
				}
				if f.Kind == Counted {
					copy(p, good[:f.Offset+f.Size])
				}
				noise := make([]byte, r.IntN(100))
				for i := range noise {
					noise[i] = byte(r.IntN(256))
				}
				got := push(s, noise, 7)
				if f.Kind == Gap || round%2 == 0 {
					s.Silence(func(p []byte) { got = append(got, string(p)) })
				}
				found := false
				for range 10 {
					for _, g := range push(s, good, 5) {
						found = found || g == string(p)
					}
					if f.Kind == Gap {
						s.Silence(func(g []byte) { found = found || string(g) == string(p) })
					}
				}
				if !found {
					t.Fatalf("round %d: after % x no frame was found any more: %+v", round, noise, s.Stats())
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			s := NewScanner(f)
			for _, filler := range [][]byte{{'a'}, {0}, {0xFF}, {0x68, 0xFF, 0xFF}, {2, 'x'}, {0x10, 2, 'x'}, {0x7E, 'x'}, {0xDB, 0xDC}, {0xAA, 0x55}, {'\r'}} {
				s.Push(bytes.Repeat(filler, 5000), func(p []byte) {
					if len(p) > f.Max {
						t.Fatalf("a payload of %d bytes", len(p))
					}
				})
				if cap(s.buf) > 4*(f.Max+MaxSequence) {
					t.Fatalf("the buffer has grown to %d bytes", cap(s.buf))
				}
			}
			s.Silence(func([]byte) {})
			if s.Begun() {
				t.Error("something is left after silence")
			}
		})
	}
}

// TestWorkIsBounded: a stream that looks like the beginning of the longest frame at every byte is not checked at every byte.
func TestWorkIsBounded(t *testing.T) {
	work := &countingAlgorithm{}
	f := Format{Kind: Fixed, Start: []byte("A"), Length: 60000, Max: 60000, Checksum: Checksum{Algorithm: work}}
	s := NewScanner(f)
	const n = 1 << 20
	s.Push(bytes.Repeat([]byte("A"), n), func([]byte) { t.Error("a frame") })
	if work.bytes > 16*n {
		t.Errorf("%d bytes were summed for %d received", work.bytes, n)
	}
}

type countingAlgorithm struct{ bytes int }

func (c *countingAlgorithm) Size() int { return 4 }
func (c *countingAlgorithm) Sum(p []byte) uint64 {
	c.bytes += len(p)
	return 1 << 40
}

func TestFormatsThatCannotBe(t *testing.T) {
	for i, f := range []Format{
		{Kind: Delimited, Max: 10}, {Kind: Delimited, Delimiter: []byte("\n")}, {Kind: Delimited, Delimiter: []byte("\n"), Max: MaxFrame + 1},
		{Kind: Delimited, Delimiter: make([]byte, 17), Max: 10}, {Kind: Fixed, Max: 10}, {Kind: Fixed, Length: 11, Max: 10}, {Kind: Counted, Size: 3, Max: 10},
		{Kind: Counted, Size: 2, Offset: 9, Max: 10}, {Kind: Counted, Size: 2, Offset: 0, Start: []byte("x"), Max: 10}, {Kind: StartStop, Start: []byte("x"), Max: 10},
		{Kind: StartStop, Start: []byte("xy"), Stop: []byte("z"), Escaped: true, Max: 10}, {Kind: StartStop, Start: []byte("x"), Stop: []byte("zz"), Escaped: true, Max: 10},
		{Kind: StartStop, Start: []byte{0x10, 2}, Stop: []byte{0x10, 0x10}, Escaped: true, Escape: 0x10, Max: 10}, {Kind: 99, Max: 10},
		{Kind: StartStop, Start: []byte{0x10, 2}, Stop: []byte{0x10, 2}, Escaped: true, Escape: 0x10, Max: 10}, {Kind: Counted, Size: 4, Adjust: 1 << 20, Max: 10},
	} {
		if err := f.Check(); err == nil {
			t.Errorf("%d: %+v was accepted", i, f)
		}
	}
}

func FuzzScanner(f *testing.F) {
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range formats() {
			if !yield(n) {
				return
			}
		}
	})
	for i := range names {
		f.Add(byte(i), byte(3), []byte("\x02abc\x03\r\n\x10\x02x\x10\x10\x10\x03\x7eab\x7d\x5e\x7e\xc0x\xdb\xdc\xc0\xaa\x55123456\x68\x02\x00ab"))
	}
	f.Fuzz(func(t *testing.T, which, piece byte, stream []byte) {
		format := formats()[names[int(which)%len(names)]]
		whole, cut := NewScanner(format), NewScanner(format)
		a, b := push(whole, stream, len(stream)+1), push(cut, stream, int(piece%16)+1)
		for _, p := range append(a, b...) {
			if len(p) == 0 || len(p) > format.Max {
				t.Fatalf("a payload of %d bytes", len(p))
			}
		}
		// Frames with a length may be given up sooner or later, by how the stream was cut: that depends on what has been received.
		if format.Kind != Fixed && format.Kind != Counted && fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("in one piece %q, in pieces %q", a, b)
		}
	})
}

// TestFrameBehindFalseStart: noise that looks like the beginning of a longer frame must not swallow the good one behind it for ever.
func TestFrameBehindFalseStart(t *testing.T) {
	f := formats()["counted"]
	good, err := f.Encode([]byte("\x68\x00\x00hello"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewScanner(f)
	if got := push(s, append([]byte{0x68, 0x1A, 0}, good...), 1); len(got) != 0 {
		t.Fatalf("%q", got)
	}
	var got []string
	s.Silence(func(p []byte) { got = append(got, string(p)) })
	if len(got) != 1 || got[0][3:] != "hello" || s.Begun() {
		t.Errorf("%q %+v", got, s.Stats())
	}
}
