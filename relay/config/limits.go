package config

import (
	"fmt"
	"time"
)

// Limits bounds what one gateway can make the relay hold or do, and what those can who are none.
type Limits struct {
	BytesPerSecond    int           `yaml:"bytesPerSecond"`    // received from one gateway, sustained
	MessagesPerSecond int           `yaml:"messagesPerSecond"` // frames received from one gateway, sustained
	ReportsPerSecond  int           `yaml:"reportsPerSecond"`  // status documents taken from one gateway, sustained
	WritesPerSecond   int           `yaml:"writesPerSecond"`   // status writes that one gateway may cause while others leave room, sustained
	SessionsPerMinute int           `yaml:"sessionsPerMinute"` // that one gateway may open
	Streams           int           `yaml:"streams"`           // that each side may have open in one gateway's session
	StreamsPerSecond  int           `yaml:"streamsPerSecond"`  // that one gateway may open, sustained
	Objects           int           `yaml:"objects"`           // that one gateway may claim to hold
	Connecting        int           `yaml:"connecting"`        // connections that are no sessions (yet), of all addresses
	AckPatience       time.Duration `yaml:"ackPatience"`       // commits may be unacknowledged so long before it is logged
}

// DefaultLimits are generous for a gateway with thousands of points, and small for a relay.
func DefaultLimits() Limits {
	return Limits{
		BytesPerSecond: 4 << 20, MessagesPerSecond: 1000, ReportsPerSecond: 500, WritesPerSecond: 150, SessionsPerMinute: 60, Objects: 20_000,
		Streams: 64, StreamsPerSecond: 10, Connecting: 16_384, AckPatience: 2 * time.Minute,
	}
}

// leastReports lets an agent that was restarted report on all it has within seconds: its acknowledgement waits until the reports are
// within the rate, and the agent's oldest values with it.
const leastReports = 50

// leastWrites is what each gateway is assured.
const leastWrites = 20

func (l Limits) check(bad func(key, format string, args ...any)) {
	for _, n := range []struct {
		key                 string
		value, least, limit int
	}{
		{"bytesPerSecond", l.BytesPerSecond, 64 << 10, 1 << 30},
		{"messagesPerSecond", l.MessagesPerSecond, 10, 1e6},
		{"reportsPerSecond", l.ReportsPerSecond, leastReports, 1e6},
		{"writesPerSecond", l.WritesPerSecond, leastWrites, 1e5},
		{"sessionsPerMinute", l.SessionsPerMinute, 2, 6000},
		{"streams", l.Streams, 1, 10_000},
		{"streamsPerSecond", l.StreamsPerSecond, 1, 10_000},
		{"objects", l.Objects, 10, 1e6},
		{"connecting", l.Connecting, 16, 1e6},
	} {
		if n.value < n.least || n.value > n.limit {
			bad("limits."+n.key, "%d is not between %d and %d", n.value, n.least, n.limit)
		}
	}
	if l.AckPatience < time.Second || l.AckPatience > 24*time.Hour {
		bad("limits.ackPatience", "%v is not between %v and %v", l.AckPatience, time.Second, fmt.Sprint(24*time.Hour))
	}
}
