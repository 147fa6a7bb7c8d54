package history

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// randomEntry is any entry that Record takes.
func randomEntry(r *rand.Rand, seq uint64) Entry {
	text := func(n int) string {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	values := []device.Value{
		{}, device.Bool(r.IntN(2) == 0), device.Int(int64(r.Uint64())), device.Int(int64(r.IntN(100))), device.Uint(r.Uint64()), device.Float(r.NormFloat64()), device.Float(math.Inf(-1)),
		device.Float32(r.Float32()), device.String(text(300)), device.Bytes([]byte(text(20))),
	}
	v := values[r.IntN(len(values))]
	v.Quality, v.Reason = device.Quality(r.IntN(3)), ""
	if v.Quality != device.Good {
		v.Reason = []string{"", "no answer", text(maxReason)}[r.IntN(3)]
	}
	v.Server = []time.Time{{}, time.Unix(0, 0), at(r.IntN(1 << 30)), time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)}[r.IntN(4)].UTC()
	if r.IntN(3) == 0 {
		v.Source = at(r.IntN(1 << 30))
	}
	return Entry{Seq: seq, Epoch: uint64(r.IntN(3)), Namespace: "n", Device: []string{"a", "b", text(40)}[r.IntN(3)], Property: text(5), Value: v}
}

// TestEncodeDecode: what the encoder made, the decoder gives back, over several bodies of a segment.
func TestEncodeDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var enc encoder
		enc.reset()
		var want, got []Entry
		n := newNames()
		seq := r.Uint64() >> 1
		for range 1 + r.IntN(4) {
			enc.begin()
			for range r.IntN(30) {
				seq += 1 + uint64(r.IntN(3)*r.IntN(1000)) //nolint:gosec // small
				e := randomEntry(r, seq)
				before := len(enc.b)
				enc.entry(&e)
				if len(enc.b)-before > bound(&e) {
					t.Fatalf("an entry takes %d bytes, bound says %d", len(enc.b)-before, bound(&e))
				}
				want = append(want, e)
			}
			if _, err := decode(enc.b, n, visitor{entry: func(e *Entry, _ int) bool { got = append(got, *e); return true }}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range want {
			w := want[i]
			if w.Value.Kind() == device.KindFloat && math.IsNaN(w.Value.AsFloat()) {
				continue
			}
			if !reflect.DeepEqual(got[i], w) {
				t.Fatalf("%+v came back as %+v", w, got[i])
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d entries came back of %d", len(got), len(want))
		}
	}
}

func TestMetaAndIndex(t *testing.T) {
	m := meta{1, 2, 3, math.MaxUint64, []cursor{{"influx", 7, 1}, {"mqtt", math.MaxUint64, 0}}}
	x := index{first: 1, last: math.MaxUint64, minTime: -5, maxTime: 1 << 60, meta: m, devices: []indexed{{deviceKey{"n", "a"}, 1 << 31, 7}, {deviceKey{"", ""}, 0, 0}}}
	var gotM meta
	var gotX index
	if _, err := decode(x.append(nil), newNames(), visitor{meta: func(m meta) { gotM = m }, index: func(x index) { gotX = x }}); err != nil {
		t.Fatal(err)
	}
	gotX.meta = gotM
	if !reflect.DeepEqual(gotX, x) {
		t.Errorf("%+v came back as %+v", x, gotX)
	}
}

// FuzzBody: whatever is in a body, decoding it ends, takes no more memory than the body justifies, and never invents an unknown series.
func FuzzBody(f *testing.F) {
	var enc encoder
	enc.reset()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 20 {
		e := randomEntry(r, uint64(i*i)) //nolint:gosec // small
		enc.entry(&e)
	}
	f.Add(append([]byte(nil), enc.b...))
	f.Add((&meta{targets: []cursor{{"a", 1, 2}}}).append(nil))
	f.Add((&index{devices: []indexed{{deviceKey{"a", "b"}, 1, 2}}}).append(nil))
	f.Add([]byte{recContext, 0, 0, 0, recEntry | 6, 9, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, body []byte) {
		n := newNames()
		count := 0
		_, _ = decode(body, n, visitor{
			entry: func(*Entry, int) bool { count++; return true },
			meta: func(m meta) {
				if len(m.targets) > maxTargets {
					t.Fatal("too many targets")
				}
			},
			index: func(x index) {
				if len(x.devices) > len(body) {
					t.Fatal("more devices than bytes")
				}
			},
		})
		if count+len(n.series)+len(n.reasons) > len(body) {
			t.Fatalf("%d entries and names out of %d bytes", count+len(n.series)+len(n.reasons), len(body))
		}
	})
}

// FuzzSegment: a file full of anything is scanned to its end, and what opens is what was sealed for its place.
func FuzzSegment(f *testing.F) {
	seg := appendSegHeader(nil, 1, 1, 1, [8]byte{1})
	var enc encoder
	enc.reset()
	for i := range 3 {
		enc.begin()
		e := Entry{Seq: uint64(i + 1), Namespace: "n", Device: "d", Property: "p", Value: device.Int(int64(i)).At(at(i))} //nolint:gosec // small
		enc.entry(&e)
		seg, _ = appendFrame(seg, clearSealer{1}, 1, int64(len(seg)), enc.b)
	}
	f.Add(append([]byte(nil), seg...), uint16(70), byte(1))
	f.Add(append(append([]byte(nil), seg...), appendTrailer(nil, 60)...), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, where uint16, flip byte) {
		if int(where) < len(b) {
			b[where] ^= flip
		}
		s := &scanner{r: bytes.NewReader(b), id: 1, sealer: clearSealer{1}, names: newNames()}
		if _, err := s.scan(min(segHeader, int64(len(b))), int64(len(b)), visitor{entry: func(*Entry, int) bool { return true }}); err != nil {
			t.Fatal(err)
		}
		parseSegHeader(b)
		if len(b) >= trailerSize {
			parseTrailer(b[len(b)-trailerSize:], int64(len(b)))
		}
	})
}
