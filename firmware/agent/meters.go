package agent

import (
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry"
)

// meters are the agent's Prometheus metrics. Most are read off the parts when they are asked for.
type meters struct {
	set     *metrics.Set
	agent   *Agent
	devices deviceMeters
}

func newMeters(a *Agent) *meters {
	m := &meters{set: metrics.NewSet(), agent: a, devices: deviceMeters{most: a.cfg.Devices.History.DeviceMetrics}}
	gauge := func(name string, read func() float64) { m.set.NewGauge(name, read) }
	gauge(`skerry_agent_info{version="`+skerry.Version+`",node="`+a.cfg.Node.Name+`"}`, func() float64 { return 1 })
	gauge("skerry_link_connected", func() float64 { return oneIf(a.link.Status().Connected) })
	gauge("skerry_link_in_sync", func() float64 { return oneIf(a.link.Status().InSync) })
	gauge("skerry_link_sessions_total", func() float64 { return float64(a.link.Status().Sessions) })
	gauge("skerry_link_attempts_total", func() float64 { return float64(a.link.Status().Attempts) })
	gauge("skerry_link_sent_bytes_total", func() float64 { return float64(a.link.Status().BytesSent) })
	gauge("skerry_link_received_bytes_total", func() float64 { return float64(a.link.Status().BytesReceived) })
	gauge("skerry_link_objects_received_total", func() float64 { return float64(a.link.Status().ObjectsReceived) })
	gauge("skerry_link_reports_sent_total", func() float64 { return float64(a.link.Status().ReportsSent) })
	gauge("skerry_link_reports_pending", func() float64 { return float64(a.link.Status().ReportsPending) })
	gauge("skerry_certificate_not_after_seconds", func() float64 { // Unix time, by the relay's clock; 0: not joined
		if t := a.renewer.Status().NotAfter; !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
	gauge("skerry_certificate_renewals_total", func() float64 { return float64(a.renewer.Status().Renewed) })
	gauge("skerry_certificate_renewal_failing", func() float64 { return oneIf(a.renewer.Status().LastError != "") })
	gauge("skerry_store_objects", func() float64 { return float64(a.desired.Len()) })
	gauge("skerry_store_writable", func() float64 { return oneIf(a.store.Err() == nil) })
	gauge("skerry_store_written_bytes_total", func() float64 { return float64(a.store.Metrics().BytesWritten) })
	gauge("skerry_store_syncs_total", func() float64 { return float64(a.store.Metrics().Syncs) })
	gauge("skerry_outbox_pending", func() float64 { return float64(a.outbox.Stats().Pending) })
	gauge("skerry_outbox_dropped_total", func() float64 { return float64(a.outbox.Stats().Dropped) })
	gauge("skerry_events_lost_total", func() float64 { return float64(a.events.Lost()) })
	gauge("skerry_memory_limit_use", func() float64 { use, _ := a.shed.state(); return use })
	gauge("skerry_memory_shed_level", func() float64 { _, level := a.shed.state(); return float64(level) })
	gauge("skerry_agent_wedged", func() float64 { return float64(len(a.health.keeper.State().Wedged)) })
	gauge("skerry_agent_healthy", func() float64 { ok, _ := a.beats.registry.Healthy(time.Now()); return oneIf(ok) })
	if a.pods != nil {
		gauge("skerry_pods", func() float64 { return float64(a.pods.Status().Pods) })
		gauge("skerry_runtime_up", func() float64 { return oneIf(a.pods.Status().RuntimeReady) })
	}
	if a.devices != nil {
		gauge("skerry_devices", func() float64 { return float64(len(a.devices.Status())) })
		gauge("skerry_devices_online", func() float64 {
			n := 0
			for _, d := range a.devices.Status() {
				if d.State == "online" {
					n++
				}
			}
			return float64(n)
		})
	}
	if a.history != nil {
		m.historyMeters(a.history)
	}
	if a.mqtt != nil {
		m.mqttMeters(a.mqtt)
	}
	return m
}

func (m *meters) restarted(part string) {
	m.set.GetOrCreateCounter(`skerry_part_restarts_total{part="` + part + `"}`).Inc()
}

func (m *meters) write(w io.Writer) {
	m.set.WritePrometheus(w)
	if m.agent.history != nil {
		writeTargets(w, m.agent.history.Stats().Targets)
		if m.devices.most > 0 {
			m.devices.write(w, m.agent.history.AllDevices())
		}
	}
	if m.agent.dmi != nil {
		writeMappers(w, m.agent.dmi.Registry.Status())
	}
	if m.agent.push != nil {
		writePush(w, m.agent.push.Status())
	}
	metrics.WriteProcessMetrics(w)
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
