package agent

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/skerry/skerry/firmware/history"
)

// deviceMeters writes the history's figures of single devices, of a bounded number of them: each device is four time series wherever the
// metrics are kept. Those that have lost most come first, and who has a place keeps it as long as the history knows the device, so that no series comes and goes.
// It is safe for concurrent use.
type deviceMeters struct {
	most int

	mu     sync.Mutex
	listed map[[2]string]bool
}

// write writes the figures of the devices that have a place. all is sorted.
func (d *deviceMeters) write(w io.Writer, all []history.NamedStats) {
	for _, s := range d.choose(all) {
		labels := fmt.Sprintf("namespace=%q,device=%q", s.Namespace, s.Name)
		fmt.Fprintf(w, "skerry_history_device_values{%s} %d\n", labels, s.Values)
		fmt.Fprintf(w, "skerry_history_device_overwritten_total{%s} %d\n", labels, s.Overwritten)
		fmt.Fprintf(w, "skerry_history_device_dropped_total{%s,reason=\"queue\"} %d\n", labels, s.DroppedFull)
		fmt.Fprintf(w, "skerry_history_device_dropped_total{%s,reason=\"size\"} %d\n", labels, s.DroppedTooLarge)
	}
}

func (d *deviceMeters) choose(all []history.NamedStats) (out []history.NamedStats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.listed
	d.listed = make(map[[2]string]bool, d.most)
	key := func(s *history.NamedStats) [2]string { return [2]string{s.Namespace, s.Name} }
	lost := func(s *history.NamedStats) uint64 { return s.DroppedFull + s.DroppedTooLarge }
	var others []*history.NamedStats
	for i := range all {
		if s := &all[i]; before[key(s)] {
			d.listed[key(s)] = true
		} else {
			others = append(others, s)
		}
	}
	slices.SortStableFunc(others, func(a, b *history.NamedStats) int {
		return cmp.Or(cmp.Compare(lost(b), lost(a)), cmp.Compare(b.Overwritten, a.Overwritten))
	})
	for _, s := range others[:min(len(others), max(d.most-len(d.listed), 0))] {
		d.listed[key(s)] = true
	}
	for i := range all {
		if d.listed[key(&all[i])] {
			out = append(out, all[i])
		}
	}
	return out
}
