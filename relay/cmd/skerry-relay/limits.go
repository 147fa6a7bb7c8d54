package main

import (
	"github.com/skerry/skerry/relay/config"
	"github.com/skerry/skerry/relay/session"
)

// sessionLimits is what the configuration says of one agent's session; the rest are the session's defaults.
func sessionLimits(l config.Limits) session.Limits {
	return session.Limits{
		BytesPerSecond: l.BytesPerSecond, MessagesPerSecond: l.MessagesPerSecond, ReportsPerSecond: l.ReportsPerSecond,
		Streams: l.Streams, StreamsPerSecond: l.StreamsPerSecond, MaxEntries: l.Objects, AckPatience: l.AckPatience,
	}
}
