package wire

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

var update = flag.Bool("update", false, "write testdata/frames.txt anew (only when the protocol version changes)")

// vectors are frames with every field set, and with as few as possible.
func vectors() []struct {
	name  string
	frame Frame
} {
	body := []byte{0x81, 0xa1, 0x61, 0x01} // {"a":1}
	pod := NewKey(KindPod, "default", "web", "u-1")
	cfg := NewKey(KindConfigMap, "default", "cfg", "")
	digest := DigestOf(1, []Entry{{cfg, BodyVersion("u-2", body)}, {pod, AbsentVersion()}})
	return []struct {
		name  string
		frame Frame
	}{
		{"hello/empty", &Hello{ProtoMin: 1, ProtoMax: 1, Node: "gw-1", Heartbeat: 15000, MaxFrame: 4 << 20}},
		{"hello/full", &Hello{ProtoMin: 1, ProtoMax: 2, Node: "gw-1", Agent: "0.1", Heartbeat: 15000, MaxFrame: 4 << 20, Rules: 1, Digest: digest.Outline(), Revisions: PackRevisions(map[Kind]uint64{KindPod: 1234567890123})}},
		{"welcome", &Welcome{Proto: 1, Relay: "relay-a", Epoch: 1785542400000000000, Heartbeat: 15000, MaxFrame: 512 << 10, Time: 1785542400000}},
		{"hello/kinds", &Hello{ProtoMin: 1, ProtoMax: 1, Node: "gw-1", Heartbeat: 15000, MaxFrame: 4 << 20, Revisions: PackRevisions(map[Kind]uint64{KindService: 7}), Kinds: 10}},
		{"welcome/kinds", &Welcome{Proto: 1, Relay: "relay-a", Epoch: 7, Heartbeat: 15000, MaxFrame: 512 << 10, Time: 1785542400000, Kinds: 10}},
		{"compare", &Compare{Buckets: 0x8000000000000001}},
		{"entries", &Entries{Entries: []EntryItem{{Key: cfg, Version: BodyVersion("u-2", body)}}, More: true}},
		{"entries/none", &Entries{}},
		{"commit", &CommitPart{ID: 1, Rules: 1, Put: []Object{{Key: cfg, Version: BodyVersion("u-2", body), Revision: 7, Body: body},
			{Key: NewKey(KindSecret, "default", "no", ""), Version: AbsentVersion(), Revision: 9, Absent: true}}, Delete: []Key{pod}, Revisions: PackRevisions(map[Kind]uint64{KindConfigMap: 9})}},
		{"commit/part", &CommitPart{ID: 2, Part: 1, More: true, Rules: 1, Put: []Object{{Key: pod, Version: BodyVersion("u-1", body), Revision: 8, Body: body}}}},
		{"ack", &Ack{ID: 2}},
		{"synced", &Synced{}},
		{"report", &Report{Seq: 1, Items: []ReportItem{{Key: pod, Body: body}}}},
		{"report-ack", &ReportAck{Seq: 1}},
		{"outbox", &Outbox{Items: []OutboxItem{{Epoch: 3, Seq: 17, Kind: KindOfEvent, Body: body}}}},
		{"outbox-ack", &OutboxAck{Epoch: 3, Seq: 17}},
		{"ping", &Ping{}},
		{"pong", &Pong{}},
		{"close", &Close{Code: CloseReplaced, Reason: "a newer session", RetryAfter: 2000}},
		{"close/bare", &Close{Code: CloseGoingAway}},
		{"close/elsewhere", &Close{Code: CloseGoingAway, RetryAfter: 500, Elsewhere: []string{"relay-b.example:8443", "[fd00::1]:443"}}},
		{"offer/sum", &Offer{Seq: 1, Sum: bytes.Repeat([]byte{0xab}, 16)}},
		{"offer/list", &Offer{Seq: 2, Items: []OfferItem{{Key: pod, Hash: BodyVersion("", body).Hash}}}},
		{"want/nothing", &Want{Seq: 1}},
		{"want/list", &Want{Seq: 1, List: true}},
		{"want/keys", &Want{Seq: 2, Keys: []Key{pod}}},
		{"want/unasked", &Want{Keys: []Key{cfg}}},
		{"hello/streams", &Hello{ProtoMin: 1, ProtoMax: 1, Node: "gw-1", Heartbeat: 15000, MaxFrame: 4 << 20, Streams: StreamPipe}},
		{"welcome/streams", &Welcome{Proto: 1, Relay: "relay-a", Epoch: 7, Heartbeat: 15000, MaxFrame: 512 << 10, Streams: StreamPipe}},
		{"stream-open", &StreamOpen{ID: 2, Service: ServiceKubelet, Window: 64 << 10}},
		{"stream-accept", &StreamAccept{ID: 2, Window: 64 << 10}},
		{"stream-data", &StreamData{ID: 2, Data: []byte("GET / HTTP/1.1")}},
		{"stream-window", &StreamWindow{ID: 2, Bytes: 32 << 10}},
		{"stream-window/all", &StreamWindow{Bytes: 64 << 10}},
		{"stream-end", &StreamEnd{ID: 2}},
		{"stream-reset", &StreamReset{ID: 2, Code: ResetFailed, Reason: "the container is gone"}},
		{"stream-reset/closed", &StreamReset{ID: 1<<32 - 1, Code: ResetClosed}},
	}
}

// TestGolden holds the encoding to testdata/frames.txt: name, tab, hex. A change there is a change of the protocol.
func TestGolden(t *testing.T) {
	var out strings.Builder
	for _, v := range vectors() {
		b, err := Encode(v.frame)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\t%x\n", v.name, b)
		back, err := Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if !reflect.DeepEqual(back, v.frame) {
			t.Errorf("%s: came back as %+v, was %+v", v.name, back, v.frame)
		}
	}
	if *update {
		if err := os.WriteFile("testdata/frames.txt", []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the encoding changed:\n got\n%s\nwant\n%s", out.String(), want)
	}
}

// TestUnknownFieldsAreSkipped: a newer peer may say more.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	b := []byte{byte(TypeAck)}
	b = msgp.AppendMapHeader(b, 3)
	b = msgp.AppendString(b, "new")
	b = msgp.AppendMapHeader(b, 1)
	b = msgp.AppendString(b, "x")
	b = msgp.AppendArrayHeader(b, 2)
	b = msgp.AppendNil(b)
	b = msgp.AppendFloat64(b, 1.5)
	b = msgp.AppendString(b, "id")
	b = msgp.AppendUint64(b, 7)
	b = msgp.AppendString(b, "later")
	b = msgp.AppendBytes(b, []byte{1, 2})
	f, err := Decode(b)
	if err != nil || f.(*Ack).ID != 7 {
		t.Fatalf("%+v, %v", f, err)
	}
}

func TestUnknownTypes(t *testing.T) {
	if f, err := Decode([]byte{64, 0x80}); f != nil || err != nil {
		t.Errorf("type 64 is optional: %v, %v", f, err)
	}
	for _, typ := range []byte{0, 17, 31, 38, 63} {
		if _, err := Decode([]byte{typ, 0x80}); !errors.Is(err, ErrUnknownFrame) {
			t.Errorf("type %d: %v", typ, err)
		}
	}
}

func hexBytes(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMalformedFrames(t *testing.T) {
	enc := func(f Frame) []byte {
		b, err := Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	body := []byte{0x80}
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"type only":             {byte(TypePing)},
		"body is an array":      {byte(TypeAck), 0x90},
		"type byte above 127":   {0xff, 0x80},
		"trailing bytes":        {byte(TypePing), 0x80, 0x80},
		"4 G objects":           hexBytes(t, "05 81 a3 707574 dd ffffffff"),
		"4 G deletions":         hexBytes(t, "05 81 a3 64656c dd ffffffff 80"),
		"4 G revisions":         hexBytes(t, "05 81 a3 726576 dd ffffffff"),
		"4 G of an unknown":     hexBytes(t, "05 81 a1 7a df ffffffff"),
		"4 G of a body":         hexBytes(t, "08 81 a1 69 91 81 a1 62 c6 ffffffff"),
		"negative id":           hexBytes(t, "06 81 a2 6964 ff"),
		"id is text":            hexBytes(t, "06 81 a2 6964 a1 31"),
		"reserved byte":         hexBytes(t, "06 81 a1 78 c1"),
		"deep unknown field":    append(hexBytes(t, "06 81 a1 78"), append(bytes.Repeat([]byte{0x91}, 100), 0xc0)...),
		"a million empty maps":  append(hexBytes(t, "06 81 a1 78 dd 000f4240"), bytes.Repeat([]byte{0x80}, 1_000_000)...),
		"key of unknown kind":   enc(&Report{Seq: 1, Items: []ReportItem{{Key: "jobs/a/b", Body: body}}}),
		"pod without uid":       enc(&Report{Seq: 1, Items: []ReportItem{{Key: "pods/a/b", Body: body}}}),
		"key with a newline":    enc(&Report{Seq: 1, Items: []ReportItem{{Key: "configmaps/a/b\nc", Body: body}}}),
		"long key":              enc(&Report{Seq: 1, Items: []ReportItem{{Key: Key("configmaps/a/" + strings.Repeat("x", MaxKey)), Body: body}}}),
		"long reason":           enc(&Close{Code: 1, Reason: strings.Repeat("x", MaxText+1)}),
		"reason is not UTF-8":   enc(&Close{Code: 1, Reason: "\xff"}),
		"object without body":   enc(&CommitPart{ID: 1, Put: []Object{{Key: "configmaps/a/b"}}}),
		"absent with body":      enc(&CommitPart{ID: 1, Put: []Object{{Key: "configmaps/a/b", Absent: true, Body: body}}}),
		"no protocol versions":  enc(&Hello{Node: "n"}),
		"versions upside down":  enc(&Hello{ProtoMin: 2, ProtoMax: 1, Node: "n"}),
		"digest is too short":   enc(&Hello{ProtoMin: 1, ProtoMax: 1, Digest: []byte{1, 2, 3}}),
		"digest lacks a bucket": enc(&Hello{ProtoMin: 1, ProtoMax: 1, Digest: append(make([]byte, 16), 0, 0, 0, 0, 0, 0, 0, 1, 9)}),
		"nine addresses":        enc(&Close{Code: 1, Elsewhere: strings.Split("a:1 b:1 c:1 d:1 e:1 f:1 g:1 h:1 i:1", " ")}),
		"long address":          enc(&Close{Code: 1, Elsewhere: []string{strings.Repeat("x", 255) + ":1"}}),
		"address without port":  enc(&Close{Code: 1, Elsewhere: []string{"relay"}}),
		"address of no host":    enc(&Close{Code: 1, Elsewhere: []string{":443"}}),
		"address, port 0":       enc(&Close{Code: 1, Elsewhere: []string{"relay:0"}}),
		"address is a URL":      enc(&Close{Code: 1, Elsewhere: []string{"https://relay:443"}}),
		"address with a space":  enc(&Close{Code: 1, Elsewhere: []string{"re lay:443"}}),
		"offer of nothing":      enc(&Offer{Seq: 1}),
		"offer of a short sum":  enc(&Offer{Seq: 1, Sum: []byte{1}}),
		"offer of both":         enc(&Offer{Seq: 1, Sum: make([]byte, 16), Items: []OfferItem{{Key: "configmaps/a/b"}}}),
		"offer of a wrong key":  enc(&Offer{Seq: 1, Items: []OfferItem{{Key: "jobs/a/b"}}}),
		"want of a wrong key":   enc(&Want{Keys: []Key{"configmaps/a"}}),
		"want of both":          enc(&Want{Seq: 1, List: true, Keys: []Key{"configmaps/a/b"}}),
		"short hash":            hexBytes(t, "04 81 a1 65 91 82 a1 6b ae 636f6e6669676d6170732f612f62 a1 76 82 a1 75 a0 a1 68 c4 02 0102"),
	} {
		if f, err := Decode(b); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	if _, err := Decode(append([]byte{byte(TypePing)}, make([]byte, MaxFrame)...)); !errors.Is(err, ErrFrame) {
		t.Errorf("a frame over the limit: %v", err)
	}
}

// TestMalformedCostsNothing: lengths that are not there must not become memory.
func TestMalformedCostsNothing(t *testing.T) {
	for _, s := range []string{"05 81 a3 707574 dd 00001fff", "05 81 a3 726576 dd ffffffff", "08 81 a1 69 91 81 a1 62 c6 00ffffff"} {
		b := hexBytes(t, s)
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_, _ = Decode(b)
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > 4096 {
			t.Errorf("%s: %d bytes were allocated for it", s, each)
		}
	}
}

func TestDigest(t *testing.T) {
	var es []Entry
	for i := range 500 {
		k := NewKey(KindConfigMap, "default", fmt.Sprint("c", i), "")
		es = append(es, Entry{k, BodyVersion("u", []byte{byte(i), byte(i >> 8)})})
	}
	a := DigestOf(1, es)
	b := DigestOf(1, nil)
	for i := len(es) - 1; i >= 0; i-- { // order does not matter
		b.Toggle(es[i])
	}
	if a != b || a.Differs(&b) != 0 {
		t.Fatal("equal sets have different digests")
	}
	changed := es[123]
	b.Toggle(changed)
	changed.Version = AbsentVersion()
	b.Toggle(changed)
	if s := a.Differs(&b); s.Len() != 1 || !s.Has(changed.Key.Bucket()) {
		t.Fatalf("one changed entry differs in %b", s)
	}
	empty := DigestOf(1, nil)
	if empty.Outline() != nil || empty.Total() != (Sum{}) {
		t.Fatal("an empty digest takes room")
	}
	// Two sets that differ in which key has which version must differ.
	x := DigestOf(0, []Entry{{es[0].Key, es[1].Version}, {es[1].Key, es[0].Version}})
	y := DigestOf(0, es[:2])
	if x == y {
		t.Fatal("swapped versions have one digest")
	}
}

// TestOutline: equal digests are known to be equal, different ones to be different, wherever they differ.
func TestOutline(t *testing.T) {
	var es []Entry
	for i := range 40 {
		es = append(es, Entry{NewKey(KindConfigMap, "default", fmt.Sprint("c", i), ""), BodyVersion("u", []byte{byte(i)})})
	}
	a, empty := DigestOf(1, es), DigestOf(1, nil)
	o, err := ParseOutline(a.Outline())
	if err != nil || o.Total != a.Total() || o.Differs(&a) != 0 {
		t.Fatalf("an outline does not stand for its digest: %v", err)
	}
	none, err := ParseOutline(nil)
	if err != nil || none.Differs(&empty) != 0 || none.Differs(&a) != o.Differs(&empty) {
		t.Fatalf("the outline of nothing: %v", err)
	}
	for i := range es {
		b := a
		b.Toggle(es[i])
		if s := o.Differs(&b); s.Len() != 1 || !s.Has(es[i].Key.Bucket()) {
			t.Fatalf("without %s it differs in %b", es[i].Key, s)
		}
	}
	// A difference behind the bytes that an outline has: the total tells, and every bucket is suspect.
	b := a
	b.Buckets[es[0].Key.Bucket()][15] ^= 1
	if s := o.Differs(&b); s.Len() != DigestBuckets {
		t.Fatalf("%d buckets are suspect", s.Len())
	}
}

func TestRevisions(t *testing.T) {
	for _, revs := range []map[Kind]uint64{nil, {KindNode: 1}, {KindDevice: 1 << 40}, {KindPod: 7, KindConfigMap: 8}, {KindService: 3, KindPersistentVolume: 4}} {
		if back := UnpackRevisions(PackRevisions(revs)); !maps.Equal(back, revs) {
			t.Errorf("%v came back as %v", revs, back)
		}
	}
	if n := len(PackRevisions(map[Kind]uint64{KindConfigMap: 1})); n != 2 {
		t.Errorf("%d numbers for the second kind", n)
	}
	if revs := UnpackRevisions([]uint64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}); len(revs) != 0 {
		t.Errorf("a kind of later releases: %v", revs)
	}
	packed := revisionKinds()
	for _, kind := range Kinds() {
		if !slices.Contains(packed[:], kind) {
			t.Errorf("%s has no revision", kind)
		}
	}
}

func TestKindsKnown(t *testing.T) {
	for kind, from := range map[Kind]uint32{KindNode: 0, KindDevice: 0, KindService: 7, KindPersistentVolume: KindsKnown()} {
		if !kind.KnownTo(max(from, 1)) || from > 0 && kind.KnownTo(from-1) {
			t.Errorf("%s is not known from %d kinds on", kind, from)
		}
	}
	if Kind("others").KnownTo(100) {
		t.Error("a kind that nobody knows is known")
	}
	for key, ok := range map[string]bool{"persistentvolumes//pv": true, "persistentvolumes/default/pv": false, "runtimeclasses//kata": true,
		"services/default/web": true, "services//web": false, "persistentvolumeclaims/default/data": true, "persistentvolumeclaims//data": false} {
		if _, err := ParseKey(key); (err == nil) != ok {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestOfferSum(t *testing.T) {
	x := OfferItem{Key: NewKey(KindNode, "", "gw", ""), Hash: [16]byte{1}}
	y := OfferItem{Key: NewKey(KindDevice, "d", "p", ""), Hash: [16]byte{2}}
	if OfferSum([]OfferItem{x, y}) != OfferSum([]OfferItem{y, x}) {
		t.Error("the order counts")
	}
	swapped := []OfferItem{{x.Key, y.Hash}, {y.Key, x.Hash}}
	if OfferSum([]OfferItem{x, y}) == OfferSum(swapped) || OfferSum([]OfferItem{x}) == OfferSum([]OfferItem{y}) || OfferSum(nil) != (Sum{}) {
		t.Error("different offers have one sum")
	}
}

func TestAbsentVersionIsNoBodys(t *testing.T) {
	if AbsentVersion() == BodyVersion("", []byte{0x80}) || AbsentVersion() != BodyVersion("", []byte{}) {
		t.Fatal("the absent version must be that of an empty body, which no object has")
	}
}

func TestKeys(t *testing.T) {
	for _, k := range []Key{"pods/ns/a/u", "configmaps/ns/a", "nodes//gw", "devices/ns/d", "secrets/ns/s", "devicemodels/ns/m"} {
		if got, err := ParseKey(string(k)); err != nil || got != k {
			t.Errorf("%s: %v", k, err)
		}
		if NewKey(k.Kind(), k.Namespace(), k.Name(), k.UID()) != k {
			t.Errorf("%s is not rebuilt from its parts", k)
		}
	}
	for _, s := range []string{"", "pods", "pods/ns/a", "pods/ns/a/", "configmaps/ns/a/u", "nodes/ns/gw", "configmaps//a", "x/y/z", "configmaps/ns/"} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q was taken for a key", s)
		}
	}
}

// FuzzDecode: whatever comes, Decode neither panics nor accepts what it cannot encode again to the same frame.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors() {
		b, err := Encode(v.frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := Decode(b)
		if err != nil || frame == nil {
			return
		}
		again, err := Encode(frame)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if err != nil {
			t.Fatalf("%x was accepted, its encoding %x is not: %v", b, again, err)
		}
		if third, err := Encode(back); err != nil || len(third) != len(again) {
			t.Fatalf("%x does not encode the same twice", b)
		}
	})
}

// TestGoldenFileIsWhole keeps the file readable for other implementations.
func TestGoldenFileIsWhole(t *testing.T) {
	f, err := os.Open("testdata/frames.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[FrameType]bool{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		_, h, ok := strings.Cut(sc.Text(), "\t")
		if !ok {
			t.Fatalf("line %q", sc.Text())
		}
		frame, err := Decode(hexBytes(t, h))
		if err != nil {
			t.Fatal(err)
		}
		seen[frame.Type()] = true
	}
	for typ := TypeHello; typ <= TypeWant; typ++ {
		if !seen[typ] {
			t.Errorf("no vector for %v", typ)
		}
	}
}
