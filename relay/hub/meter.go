package hub

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/stream"
	"github.com/skerry/skerry/relay/session"
)

// meter holds the hub's metrics. All are named skerry_relay_….
type meter struct {
	set                       *metrics.Set
	framesIn, framesOut       *metrics.Counter
	bytesIn, bytesOut         *metrics.Counter
	objects, deletes, resumed *metrics.Counter
	commits, outbox           *metrics.Counter
	reports, reportsRefused   *metrics.Counter
	offered, wanted           *metrics.Counter
	dialled, accepted         *metrics.Counter // streams
	streamIn, streamOut       *metrics.Counter // bytes of them
}

func newMeter(set *metrics.Set, sessions, handshakes func() float64) *meter {
	set.GetOrCreateGauge("skerry_relay_sessions", sessions)
	set.GetOrCreateGauge("skerry_relay_handshakes_waiting", handshakes)
	c := func(name string) *metrics.Counter { return set.GetOrCreateCounter("skerry_relay_" + name) }
	return &meter{
		set:      set,
		framesIn: c("frames_received_total"), framesOut: c("frames_sent_total"),
		bytesIn: c("bytes_received_total"), bytesOut: c("bytes_sent_total"),
		objects: c("objects_sent_total"), deletes: c("deletes_sent_total"), resumed: c("objects_resumed_total"),
		commits: c("commits_sent_total"), reports: c("reports_total"), outbox: c("outbox_items_total"),
		reportsRefused: c("reports_refused_total"),
		offered:        c("reports_offered_total"), wanted: c("reports_wanted_total"),
		dialled: c(`streams_opened_total{by="relay"}`), accepted: c(`streams_opened_total{by="agent"}`),
		streamIn: c("stream_bytes_received_total"), streamOut: c("stream_bytes_sent_total"),
	}
}

func (m *meter) received(bytes int) { m.framesIn.Inc(); m.bytesIn.Add(bytes) }

func (m *meter) sent(frames, bytes int) { m.framesOut.Add(frames); m.bytesOut.Add(bytes) }

func (m *meter) stats(before, now session.Stats) {
	add := func(c *metrics.Counter, from, to uint64) { c.Add(int(to - from)) }
	add(m.objects, before.ObjectsSent, now.ObjectsSent)
	add(m.deletes, before.DeletesSent, now.DeletesSent)
	add(m.resumed, before.ObjectsResumed, now.ObjectsResumed)
	add(m.commits, before.CommitsSent, now.CommitsSent)
	add(m.reports, before.Reports, now.Reports)
	add(m.reportsRefused, before.ReportsRefused, now.ReportsRefused)
	add(m.offered, before.Offered, now.Offered)
	add(m.wanted, before.Wanted, now.Wanted)
	add(m.outbox, before.OutboxItems, now.OutboxItems)
}

// streamed counts what streams did.
func (m *meter) streamed(before, now stream.Stats) {
	m.dialled.Add(int(now.Opened - before.Opened))
	m.accepted.Add(int(now.Accepted - before.Accepted))
	m.streamIn.Add(int(now.BytesIn - before.BytesIn))
	m.streamOut.Add(int(now.BytesOut - before.BytesOut))
}

// closed counts a session's end by reason; code 0 stands for a lost connection and for an agent that said goodbye.
func (m *meter) closed(code wire.CloseCode) {
	reason := "connection"
	if code != 0 {
		reason = code.String()
	}
	m.set.GetOrCreateCounter(fmt.Sprintf("skerry_relay_session_closes_total{reason=%q}", reason)).Inc()
}

// handshake counts TLS handshakes with a client certificate.
func (m *meter) handshake(resumed bool) {
	m.set.GetOrCreateCounter(fmt.Sprintf(`skerry_relay_handshakes_total{resumed="%t"}`, resumed)).Inc()
}

// sessionRefused counts what a session was not given; the reasons are relay/session's and the hub's own.
func (m *meter) sessionRefused(why string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("skerry_relay_refused_total{reason=%q}", why)).Inc()
}

// refused counts what never became a session.
func (m *meter) refused(why string) {
	m.set.GetOrCreateCounter(fmt.Sprintf("skerry_relay_connections_refused_total{reason=%q}", why)).Inc()
}
