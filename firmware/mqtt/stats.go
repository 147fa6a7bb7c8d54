package mqtt

import "sync/atomic"

// counters are the broker's figures.
type counters struct {
	refused struct {
		admission, gate, identity, topics atomic.Uint64
	}
	published, delivered atomic.Uint64
	dropped              struct {
		queue, inflight, retained atomic.Uint64
	}
	stalled, deferred, unsaved, damaged atomic.Uint64
	requests, requestsRefused           atomic.Uint64
	written                             atomic.Uint64
}

// Stats are a Broker's figures since it was made.
type Stats struct {
	Connections, Sessions, Subscriptions int
	RetainedBytes, KeptBytes             int64
	RefusedConnections, RefusedFirst     uint64 // over the limits; by the first packet
	RefusedIdentities, RefusedTopics     uint64
	Published, Delivered                 uint64
	DroppedQueue, DroppedInflight        uint64 // of subscribers that did not read, or acknowledge, in time
	DroppedRetained                      uint64 // not retained for want of room
	Stalled                              uint64 // connections that were ended because their peer did not read
	Requests, RequestsRefused            uint64
	Deferred, Unsaved, Damaged, Written  uint64 // writes that waited for the flash's budget; messages beyond mqtt.limits.kept; damaged records; bytes
}

// Stats returns the figures.
func (b *Broker) Stats() Stats {
	s := &b.stats
	out := Stats{
		Connections: b.admission.open(), RetainedBytes: b.retained.bytes(), KeptBytes: b.keeper.kept(),
		RefusedConnections: s.refused.admission.Load(), RefusedFirst: s.refused.gate.Load(), RefusedIdentities: s.refused.identity.Load(), RefusedTopics: s.refused.topics.Load(),
		Published: s.published.Load(), Delivered: s.delivered.Load(), DroppedQueue: s.dropped.queue.Load(), DroppedInflight: s.dropped.inflight.Load(), DroppedRetained: s.dropped.retained.Load(),
		Stalled: s.stalled.Load(), Requests: s.requests.Load(), RequestsRefused: s.requestsRefused.Load(),
		Deferred: s.deferred.Load(), Unsaved: s.unsaved.Load(), Damaged: s.damaged.Load(), Written: s.written.Load(),
	}
	if server := b.srv(); server != nil {
		out.Sessions = max(server.Clients.Len()-1, 0) // the broker's own is one
		out.Subscriptions = int(atomic.LoadInt64(&server.Info.Subscriptions))
	}
	return out
}
