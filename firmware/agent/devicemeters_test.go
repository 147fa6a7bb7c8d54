package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/history"
)

// TestDeviceMeters: a bounded number of devices have figures of their own, those that lost most first; who has a place keeps it until the history forgets the device.
func TestDeviceMeters(t *testing.T) {
	device := func(name string, dropped, overwritten uint64) history.NamedStats {
		return history.NamedStats{Namespace: "plant", Name: name, DeviceStats: history.DeviceStats{Values: 7, DroppedFull: dropped, Overwritten: overwritten}}
	}
	d := &deviceMeters{most: 2}
	for i, c := range []struct {
		all  []history.NamedStats
		want string
	}{
		{nil, ""},
		{[]history.NamedStats{device("a", 0, 0)}, "a"},
		{[]history.NamedStats{device("a", 0, 0), device("b", 0, 0), device("c", 0, 9), device("d", 1, 0)}, "a d"},
		{[]history.NamedStats{device("a", 0, 0), device("b", 50, 0), device("c", 0, 9), device("d", 1, 0)}, "a d"},
		{[]history.NamedStats{device("b", 0, 0), device("c", 0, 9), device("d", 1, 0)}, "c d"},
	} {
		var out strings.Builder
		d.write(&out, c.all)
		var got []string
		for line := range strings.Lines(out.String()) {
			if name, ok := strings.CutPrefix(line, `skerry_history_device_values{namespace="plant",device="`); ok {
				got = append(got, strings.TrimSuffix(name, "\"} 7\n"))
			}
		}
		if strings.Join(got, " ") != c.want || strings.Count(out.String(), "\n") != 4*len(got) || !slices.IsSorted(got) {
			t.Errorf("step %d: %q, want %q:\n%s", i, got, c.want, out.String())
		}
	}
	var out strings.Builder
	d.write(&out, []history.NamedStats{device("d", 3, 5)})
	for _, want := range []string{`skerry_history_device_overwritten_total{namespace="plant",device="d"} 5`, `skerry_history_device_dropped_total{namespace="plant",device="d",reason="queue"} 3`} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}
