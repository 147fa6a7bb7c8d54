package store

import (
	"bytes"
	"errors"
	"testing"
)

func sampleFrame(seq, id uint64) []byte {
	b := beginFrame(nil, seq, 3)
	b = appendChange(b, change{recKey: recKey{SpaceTwin, "pump/speed"}, sealed: bytes.Repeat([]byte{1}, 60)})
	b = appendChange(b, change{recKey: recKey{SpaceDesired, "pods/default/web/uid"}, sealed: bytes.Repeat([]byte{2}, 300)})
	b = appendChange(b, change{recKey: recKey{SpaceOutbox, "x"}, del: true, sealed: bytes.Repeat([]byte{3}, sealOverhead)})
	endFrame(b, 0, id)
	return b
}

func TestFrameRoundTrip(t *testing.T) {
	b := sampleFrame(7, 3)
	n, err := frameLen(b, int64(len(b)))
	if err != nil || n != len(b)-frameHeader {
		t.Fatal(n, err)
	}
	seq, changes, err := decodeFrame(b[:frameHeader], b[frameHeader:], 3)
	if err != nil || seq != 7 || len(changes) != 3 {
		t.Fatal(seq, changes, err)
	}
	if c := changes[2]; !c.del || c.recKey != (recKey{SpaceOutbox, "x"}) || len(c.sealed) != sealOverhead {
		t.Errorf("deletion: %+v", c)
	}
	if c := changes[1]; c.del || c.key != "pods/default/web/uid" || len(c.sealed) != 300 {
		t.Errorf("put: %+v", c)
	}
	if _, _, err := decodeFrame(b[:frameHeader], b[frameHeader:], 4); !errors.Is(err, errFrameSum) {
		t.Errorf("in another segment: %v", err)
	}
}

func TestFrameLengthIsCheckedFirst(t *testing.T) {
	for _, c := range []struct {
		hdr  string
		left int64
		want error
	}{
		{"\xff\xff\xff\xff\x00\x00\x00\x00", 1 << 40, errFrameSize},
		{"\x00\x00\x00\x00\x00\x00\x00\x00", 1 << 40, errFrameSize},
		{"\x00\x01\x00\x00\x00\x00\x00\x00", 100, errFrameShort},
		{"\x00\x01\x00", 100, errFrameShort},
	} {
		if _, err := frameLen([]byte(c.hdr), c.left); !errors.Is(err, c.want) {
			t.Errorf("%q of %d: %v, want %v", c.hdr, c.left, err, c.want)
		}
	}
}

func TestSegmentHeader(t *testing.T) {
	h := segHeader{id: 1, after: 2, epoch: 3, keyID: [8]byte{4}}
	b := h.append(nil)
	if got, ok := parseSegHeader(b); !ok || got != h || len(b) != segHeaderSize {
		t.Errorf("%+v, %v, %d bytes", got, ok, len(b))
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, ok := parseSegHeader(c); ok {
			t.Errorf("flip at %d was not noticed", i)
		}
	}
}

// FuzzScanSegment reads arbitrary bytes as a segment. It must end, allocate no more than the input's size calls for, and find every whole frame only once.
func FuzzScanSegment(f *testing.F) {
	hdr := segHeader{id: 1}.append(nil)
	whole := append(append(bytes.Clone(hdr), sampleFrame(1, 1)...), sampleFrame(2, 1)...)
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(append(bytes.Clone(hdr), make([]byte, 64)...))
	broken := bytes.Clone(whole)
	broken[70] ^= 1
	f.Add(broken)
	f.Fuzz(func(t *testing.T, b []byte) {
		last := uint64(0)
		res, err := scanSegment(bytes.NewReader(b), int64(len(b)), 1, 0, func(seq uint64, changes []change) {
			if seq <= last {
				t.Fatalf("frame %d after %d", seq, last)
			}
			last = seq
			for _, c := range changes {
				if !c.space.valid() || c.key == "" || len(c.key) > MaxKey || len(c.sealed) > len(b) {
					t.Fatalf("change %+v", c)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if res.end > int64(len(b)) || res.last != last {
			t.Fatalf("%+v, last %d", res, last)
		}
	})
}

// FuzzWalkBolt reads arbitrary bytes as a bbolt file.
func FuzzWalkBolt(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xed}, 8192))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = walkBolt(bytes.NewReader(b), int64(len(b)), func(_ string, key, value []byte) {
			if len(key)+len(value) > len(b) {
				t.Fatal("a record is larger than the file")
			}
		})
	})
}
