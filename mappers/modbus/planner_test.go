package modbus

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// TestPlanOfLine holds the arithmetic to the standard's: 9600 baud 8E1 has 11 bits a character, so 1.146 ms.
func TestPlanOfLine(t *testing.T) {
	d := New()
	points := devicetest.Compile(t, d, holding(0), holding(1), holding(100, "limit", 2))
	cfg := device.Config{Protocol: map[string]any{"serialPort": "/dev/ttyS1", "parity": "even", "slaveID": 3}}
	p, err := d.Plan(cfg, points, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if p.Line != "/dev/ttyS1 (9600 8E1)" || len(p.Requests) != 2 {
		t.Fatalf("%+v", p)
	}
	// 8 characters there, 5 and the data back, 3.5 of silence before each of the two frames.
	char := 11.0 / 9600
	load := 0.0
	for i, want := range []struct {
		text   string
		points []int
		bytes  int
	}{{"read holding registers 0 to 1", []int{0, 1}, 8 + 9}, {"read holding registers 100 to 101", []int{2}, 8 + 9}} {
		r := p.Requests[i]
		secs := char * (float64(want.bytes) + 7)
		if load += secs; r.Text != want.text || !slices.Equal(r.Points, want.points) || r.Bytes != want.bytes || math.Abs(r.Time.Seconds()-secs) > 1e-5 {
			t.Errorf("request %d: %+v, want %+v, %.6f s", i, r, want, secs)
		}
	}
	if math.Abs(p.Load-load) > 1e-4 {
		t.Errorf("load %.5f, want %.5f", p.Load, load)
	}
}

// TestPlanMatchesTraffic: what the plan says is sent is what a session sends.
func TestPlanMatchesTraffic(t *testing.T) {
	d := New()
	for name, c := range map[string]struct {
		protocol map[string]any
		bytes    int
		load     bool
	}{
		"TCP":          {map[string]any{"ip": "10.0.0.7"}, 12 + 9 + 20, false},
		"RTU over TCP": {map[string]any{"ip": "10.0.0.7", "serialType": "RTUoverTCP"}, 8 + 5 + 20, false},
		"ASCII":        {map[string]any{"serialPort": "/dev/ttyS1", "serialType": "ASCII"}, 17 + 11 + 40, true},
	} {
		p, err := d.Plan(device.Config{Protocol: c.protocol}, devicetest.Compile(t, d, holding(0), holding(9)), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Requests) != 2 {
			t.Fatalf("%s: %+v", name, p)
		}
		c.protocol["maxGap"] = 10
		p, err = d.Plan(device.Config{Protocol: c.protocol}, devicetest.Compile(t, d, holding(0), holding(9)), time.Second)
		if err != nil || len(p.Requests) != 1 || p.Requests[0].Bytes != c.bytes || p.Load > 0 != c.load {
			t.Errorf("%s: %+v %v, want %d bytes", name, p, err, c.bytes)
		}
	}
}
