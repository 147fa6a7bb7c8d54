package devicetest

import (
	"testing"

	"github.com/skerry/skerry/mappers/device"
)

// Open opens a session that is closed with the test, and fails the test if either is refused.
func Open(t testing.TB, d device.Driver, cfg device.Config) device.Session {
	t.Helper()
	session, err := d.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return session
}

// Compile compiles properties, and fails the test if one is refused.
func Compile(t testing.TB, d device.Driver, cfgs ...device.PointConfig) []device.Point {
	t.Helper()
	points := make([]device.Point, len(cfgs))
	for i, cfg := range cfgs {
		p, err := d.Compile(cfg)
		if err != nil {
			t.Fatalf("Compile(%s): %v", cfg.Property, err)
		}
		if p.String() == "" {
			t.Errorf("point %s does not describe itself", cfg.Property)
		}
		points[i] = p
	}
	return points
}

// Data is configData of names and values in turn.
func Data(kv ...any) map[string]any {
	m := make(map[string]any, len(kv)/2)
	for i := 0; i+1 < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return m
}
