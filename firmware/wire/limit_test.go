package wire

import (
	"bytes"
	"testing"
)

// TestLargeBodiesPass: a configMap may have a mebibyte, and so may an agent's report. (msgp counts the bytes of a bin as elements
// of an array, whose limit is far lower.)
func TestLargeBodiesPass(t *testing.T) {
	body := bytes.Repeat([]byte{7}, 1<<20)
	for _, f := range []Frame{
		&CommitPart{ID: 1, Put: []Object{{Key: NewKey(KindConfigMap, "default", "c", ""), Version: BodyVersion("u", body), Body: body}}},
		&Report{Seq: 1, Items: []ReportItem{{Key: NewKey(KindNode, "", "gw", ""), Body: body}}},
		&Outbox{Items: []OutboxItem{{Epoch: 1, Seq: 1, Kind: KindOfEvent, Body: body}}},
	} {
		b, err := Append(nil, f)
		if err != nil {
			t.Fatalf("%v: %v", f.Type(), err)
		}
		back, err := Decode(b)
		if err != nil {
			t.Errorf("%v: %v", f.Type(), err)
			continue
		}
		again, err := Append(nil, back)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%v: another frame comes out than went in (%v)", f.Type(), err)
		}
	}
}
