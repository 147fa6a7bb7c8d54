package serial

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

// TestPlan: properties with the same request share it, and what is not known is not counted.
func TestPlan(t *testing.T) {
	d := New()
	text := func(name, request string) device.PointConfig {
		v := map[string]any{"pattern": "([0-9.]+)"}
		if request != "" {
			v["request"] = request
		}
		return device.PointConfig{Property: name, Path: "p", Type: device.TypeFloat, Visitor: v}
	}
	points := devicetest.Compile(t, d, text("a", `A?\r`), text("b", `B?\r\n`), text("c", `A?\r`), text("d", ""))
	p, err := d.Plan(device.Config{Protocol: map[string]any{"serialPort": "/dev/ttyS1"}}, points, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	// 9600 8N1: 10 bits a character.
	if p.Line != "/dev/ttyS1 (9600 8N1)" || len(p.Requests) != 2 || !slices.Equal(p.Requests[0].Points, []int{0, 2}) || p.Requests[0].Bytes != 3 ||
		p.Requests[1].Bytes != 4 || p.Requests[1].Time.Round(time.Microsecond) != 4167*time.Microsecond || p.Load < 0.0072 || p.Load > 0.0074 {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(p.Note, "requests alone") || !strings.Contains(p.Note, "1 properties by itself") {
		t.Error(p.Note)
	}
	p, err = d.Plan(device.Config{Protocol: map[string]any{"ip": "10.0.0.8", "port": 4001, "framing": "fixed", "frameLength": 10}}, points, time.Second)
	if err != nil || p.Line != "10.0.0.8:4001" || p.Load != 0 || p.Requests[0].Bytes != 13 || strings.Contains(p.Note, "alone") {
		t.Errorf("%+v %v", p, err)
	}
}
