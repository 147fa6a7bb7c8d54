package kubelet

import (
	"fmt"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

type meter struct {
	set  *metrics.Set
	open atomic.Int64
}

func newMeter(set *metrics.Set) *meter {
	m := &meter{set: set}
	set.NewGauge("skerry_relay_kubelet_requests_open", func() float64 { return float64(m.open.Load()) })
	return m
}

func (m *meter) refused(reason string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("skerry_relay_kubelet_refused_total{reason=%q}", reason)).Inc()
}

func (m *meter) handed(where string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("skerry_relay_kubelet_requests_total{handed=%q}", where)).Inc()
}
