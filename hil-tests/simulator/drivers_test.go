package simulator

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua"
)

// TestOurOPCUADriver reads, writes and subscribes as a gateway does.
func TestOurOPCUADriver(t *testing.T) {
	s := plant(t)
	d := opcua.New(opcua.Options{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	session, err := d.Open(t.Context(), device.Config{Device: "ns/press", Protocol: map[string]any{"url": "opc.tcp://" + s.Addrs()[1]}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	var points []device.Point
	for _, node := range []string{"ns=1;s=pressure", "nsu=urn:example:press;s=target", "ns=1;s=strokes"} {
		p, err := d.Compile(device.PointConfig{Property: "p", Type: device.TypeDouble, Writable: true, Visitor: map[string]any{"nodeID": node}})
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	values := make([]device.Value, len(points))
	if err := session.Read(ctx, points, values); err != nil || values[1].Text() != "100" || values[0].Quality != device.Good || values[0].Source.IsZero() {
		t.Fatalf("%v %v", values, err)
	}
	if r := session.Write(ctx, []device.Write{{Point: points[1], Value: device.Float(90)}}); r[0].Err != nil || !r[0].Verified {
		t.Errorf("write: %+v", r[0])
	}
	if v := s.Device("press").Values()["target"]; v != 90 {
		t.Errorf("target is %v at the server", v)
	}
	subscribed, stop := context.WithCancel(ctx)
	changes := 0
	err = session.(device.Subscriber).Subscribe(subscribed, points[2:], func(_ int, v device.Value) {
		if v.Quality == device.Good {
			changes++
		}
		if changes == 3 {
			stop()
		}
	})
	if changes < 3 {
		t.Errorf("%d changes: %v", changes, err)
	}
	stop()
}
