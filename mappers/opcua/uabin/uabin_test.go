package uabin

import (
	"bytes"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"
)

// encode is gopcua's encoder, which this package must understand.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := ua.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// samples are values of every built-in type, as gopcua and as this package hold them.
func samples() []any {
	return []any{
		true, int8(-5), uint8(200), int16(-30000), uint16(65535), int32(math.MinInt32), uint32(math.MaxUint32), int64(math.MinInt64), uint64(math.MaxUint64),
		float32(1.5), -2.25e300, "grüezi", time.Date(2026, 11, 23, 11, 30, 0, 123456700, time.UTC), ua.NewGUID("72962B91-FA75-4AE6-8D28-B404DC7DAF63"),
		[]byte{1, 2, 3}, ua.XMLElement("<a/>"), ua.NewTwoByteNodeID(5), ua.NewFourByteNodeID(3, 300), ua.NewNumericNodeID(300, 70000), ua.NewStringNodeID(2, "a.b"),
		ua.NewGUIDNodeID(2, "72962B91-FA75-4AE6-8D28-B404DC7DAF63"), ua.NewByteStringNodeID(2, []byte{9, 8}),
		ua.NewExpandedNodeID(ua.NewStringNodeID(0, "x"), "urn:x", 3), ua.StatusBadNodeIDUnknown,
		&ua.QualifiedName{NamespaceIndex: 2, Name: "q"}, ua.NewLocalizedTextWithLocale("Wert", "de"),
	}
}

func TestEveryBuiltInTypeAndItsArrays(t *testing.T) {
	for _, want := range samples() {
		v, err := ua.NewVariant(want)
		if err != nil {
			t.Fatalf("%T: %v", want, err)
		}
		r := NewReader(encode(t, v))
		got := r.Variant()
		if r.Err() != nil || r.Len() != 0 || got.Array || got.Type != v.Type() || !reflect.DeepEqual(got.V, want) {
			t.Errorf("%T %v: got %#v, error %v, %d bytes left", want, want, got, r.Err(), r.Len())
		}
		list := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(want)), 0, 3)
		for range 3 {
			list = reflect.Append(list, reflect.ValueOf(want))
		}
		in, both := list.Interface(), true
		switch b := in.(type) {
		case []byte:
			in = ua.ByteArray(b)
		case [][]byte:
			both = false // gopcua's encoder writes nothing for them
		}
		ours := encode(t, &Variant{Type: v.Type(), Array: true, V: list.Interface()})
		if both && !bytes.Equal(ours, encode(t, ua.MustVariant(in))) {
			t.Errorf("array of %T is encoded as % x, by gopcua as % x", want, ours, encode(t, ua.MustVariant(in)))
		}
		if one := encode(t, &Variant{Type: v.Type(), V: want}); !bytes.Equal(one, encode(t, v)) {
			t.Errorf("%T is encoded as % x, by gopcua as % x", want, one, encode(t, v))
		}
		r = NewReader(ours)
		got = r.Variant()
		if r.Err() != nil || r.Len() != 0 || !got.Array || got.Len() != 3 || !reflect.DeepEqual(got.V, list.Interface()) || !reflect.DeepEqual(got.At(1).V, want) {
			t.Errorf("array of %T: got %#v, error %v", want, got, r.Err())
		}
	}
}

func TestMatrix(t *testing.T) {
	r := NewReader(encode(t, ua.MustVariant([][]int32{{1, 2, 3}, {4, 5, 6}})))
	got := r.Variant()
	if b := encode(t, &got); !bytes.Equal(b, encode(t, ua.MustVariant([][]int32{{1, 2, 3}, {4, 5, 6}}))) {
		t.Errorf("encoded as % x", b)
	}
	if r.Err() != nil || !reflect.DeepEqual(got.Dims, []int32{2, 3}) || !reflect.DeepEqual(got.V, []int32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("got %+v, error %v", got, r.Err())
	}
}

func TestUnknownStructureKeepsItsBody(t *testing.T) {
	x := &ua.ExtensionObject{TypeID: ua.NewNumericExpandedNodeID(4, 5001), EncodingMask: ua.ExtensionObjectBinary, Value: &ua.QualifiedName{NamespaceIndex: 7, Name: "n"}}
	r := NewReader(encode(t, ua.MustVariant(x)))
	got, ok := r.Variant().V.(Extension)
	if !ok || r.Err() != nil || got.Type.NodeID.IntID() != 5001 || got.Encoding != 1 {
		t.Fatalf("got %+v, error %v", got, r.Err())
	}
	if q := NewReader(got.Body).QualifiedName(); q.Name != "n" || q.NamespaceIndex != 7 {
		t.Errorf("body %+v", q)
	}
}

// response is a service response as a server sends it.
func response(t testing.TB, kind uint16, m any) []byte {
	return append(encode(t, ua.NewFourByteExpandedNodeID(0, kind)), encode(t, m)...)
}

func header(handle uint32) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Unix(1, 0).UTC(), RequestHandle: handle, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func publishResponse(t testing.TB) []byte {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return response(t, id.PublishResponse_Encoding_DefaultBinary, &ua.PublishResponse{
		ResponseHeader: header(9), SubscriptionID: 4, AvailableSequenceNumbers: []uint32{11, 12}, MoreNotifications: true,
		NotificationMessage: &ua.NotificationMessage{SequenceNumber: 12, PublishTime: at, NotificationData: []*ua.ExtensionObject{
			ua.NewExtensionObject(&ua.DataChangeNotification{MonitoredItems: []*ua.MonitoredItemNotification{
				{ClientHandle: 77, Value: &ua.DataValue{EncodingMask: 0xf, Value: ua.MustVariant(1.5), Status: ua.StatusUncertain, SourceTimestamp: at, ServerTimestamp: at}},
			}}),
			ua.NewExtensionObject(&ua.StatusChangeNotification{Status: ua.StatusBadTimeout, DiagnosticInfo: &ua.DiagnosticInfo{}}),
		}},
		Results: []ua.StatusCode{ua.StatusOK},
	})
}

func TestResponses(t *testing.T) {
	got, err := DecodeResponse(publishResponse(t))
	p, ok := got.(*PublishResponse)
	if err != nil || !ok || p.Subscription != 4 || len(p.Available) != 2 || !p.More || p.Message.Sequence != 12 || len(p.Results) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(p.Message.Changes) != 1 || p.Message.Changes[0].Handle != 77 || p.Message.Changes[0].Value.Value.V != 1.5 || p.Message.Changes[0].Value.Status != ua.StatusUncertain {
		t.Errorf("changes %+v", p.Message.Changes)
	}
	if !p.Message.HasStatus || p.Message.Status != ua.StatusBadTimeout || p.Message.KeepAlive {
		t.Errorf("status %+v", p.Message)
	}
	want := &ua.BrowseResponse{ResponseHeader: header(3), Results: []*ua.BrowseResult{{StatusCode: ua.StatusOK, ContinuationPoint: []byte{1}, References: []*ua.ReferenceDescription{{
		ReferenceTypeID: ua.NewTwoByteNodeID(35), IsForward: true, NodeID: ua.NewStringExpandedNodeID(2, "x"), BrowseName: &ua.QualifiedName{NamespaceIndex: 2, Name: "x"},
		DisplayName: ua.NewLocalizedText("x"), NodeClass: ua.NodeClassVariable, TypeDefinition: ua.NewTwoByteExpandedNodeID(63)}}}}}
	got, err = DecodeResponse(response(t, id.BrowseResponse_Encoding_DefaultBinary, want))
	if err != nil {
		t.Fatal(err)
	}
	if b := got.(*ua.BrowseResponse); !reflect.DeepEqual(b.Results, want.Results) || Header(got).RequestHandle != 3 {
		t.Errorf("got %+v", b.Results[0].References[0])
	}
}

// TestHostile: what claims more than it has is refused before memory is taken.
func TestHostile(t *testing.T) {
	for name, b := range map[string][]byte{
		"array of 2 thousand million":    {0x80 | 11, 0xff, 0xff, 0xff, 0x7f},
		"string of 2 thousand million":   {12, 0xff, 0xff, 0xff, 0x7f},
		"negative length":                {0x80 | 6, 0xfe, 0xff, 0xff, 0xff, 1},
		"dimensions that overflow":       {0xc0 | 3, 4, 0, 0, 0, 1, 2, 3, 4, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 4, 0, 0, 0},
		"unknown type":                   {40},
		"nesting without end":            repeat([]byte{24}, 5000),
		"arrays nested without end":      repeat([]byte{0x80 | 24, 1, 0, 0, 0}, 5000),
		"a million null variants":        append([]byte{0x80 | 24, 0x40, 0x42, 0x0f, 0}, make([]byte, 1000000)...),
		"node id of unknown kind":        {17, 0x0a},
		"diagnostics nested for ever":    append([]byte{25}, repeat([]byte{0x40}, 5000)...),
		"data value that ends in itself": {23, 0x3f, 11, 1},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := NewReader(b)
		got := r.Variant()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s: took %d KiB", name, took>>10)
		}
		if name == "negative length" {
			if r.Err() != nil || got.Len() != 0 {
				t.Errorf("%s: %+v, %v", name, got, r.Err())
			}
			continue
		}
		if r.Err() == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func repeat(b []byte, n int) []byte {
	var out []byte
	for range n {
		out = append(out, b...)
	}
	return out
}

func FuzzVariant(f *testing.F) {
	for _, s := range samples() {
		f.Add(encode(f, ua.MustVariant(s)))
	}
	f.Add(encode(f, ua.MustVariant([][]int32{{1, 2}, {3, 4}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(b)
		v := r.Variant()
		if r.Err() != nil {
			return
		}
		for i := range v.Len() {
			v.At(i)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add(publishResponse(f))
	f.Add(response(f, id.ServiceFault_Encoding_DefaultBinary, &ua.ServiceFault{ResponseHeader: header(1)}))
	f.Add(response(f, id.GetEndpointsResponse_Encoding_DefaultBinary, &ua.GetEndpointsResponse{ResponseHeader: header(1), Endpoints: []*ua.EndpointDescription{{Server: &ua.ApplicationDescription{ApplicationName: ua.NewLocalizedText("a")}}}}))
	f.Add(response(f, id.ReadResponse_Encoding_DefaultBinary, &ua.ReadResponse{ResponseHeader: header(1), Results: []*ua.DataValue{{EncodingMask: 1, Value: ua.MustVariant("x")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := DecodeResponse(b)
		if (got == nil) == (err == nil) {
			t.Errorf("response %v with error %v", got, err)
		}
		if err == nil && Header(got) == nil {
			t.Errorf("%T has no header", got)
		}
	})
}
