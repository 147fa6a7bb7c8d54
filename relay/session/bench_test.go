package session_test

import (
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// BenchmarkChange is one change on its way through a session whose agent holds 50 objects: the commit, its encoding and the
// acknowledgement. A configMap of 10,000 agents takes it 10,000 times.
func BenchmarkChange(b *testing.B) {
	s := newOneNode(50)
	m := s.synced(b)
	now := time.Unix(1_800_000_016, 0)
	key := wire.Key("devices/default/device-7")
	long := make([]wire.Key, 40)
	for i := range long {
		long[i] = "configmaps/default/some-name"
	}
	bodies := [][]byte{linktest.Body(1, long...), linktest.Body(2, long...)}
	buf := make([]byte, 0, 64<<10)
	id := uint64(1)
	dirty := []wire.Key{key}
	objects := [2]wire.Object{}
	for i := range objects {
		objects[i] = wire.Object{Key: key, Version: wire.BodyVersion("0b0f4b5e-8c3f-4a43-9a0e-6f0c0a3f7a11", bodies[i]), Revision: uint64(500_000 + i), Body: bodies[i]}
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(bodies[0])))
	for i := 0; b.Loop(); i++ {
		s.objects[key] = objects[i%2]
		sent := 0
		for _, a := range m.Step(session.Dirty{Keys: dirty}, now) {
			if send, ok := a.(session.Send); ok {
				var err error
				if buf, err = wire.Append(buf[:0], send.Frame); err != nil {
					b.Fatal(err)
				}
				sent++
			}
		}
		if sent != 1 {
			b.Fatalf("%d frames", sent)
		}
		now = now.Add(time.Second)
		id++
		m.Step(session.Received{Frame: &wire.Ack{ID: id}, Size: 10}, now)
	}
}
