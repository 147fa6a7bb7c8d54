package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Desired is the agent's durable copy of what the relay wants it to hold. Digest, Bucket and Revisions read memory and are
// called often; Apply blocks until the commit is durable, and is called from one goroutine, in order.
type Desired interface {
	Apply(ctx context.Context, c wire.Commit) error
	Digest() wire.Digest
	Bucket(i int) []wire.Entry
	Revisions() map[wire.Kind]uint64
}

// Outbox holds the messages that may not be lost. Both calls may block on the disk and are made from one goroutine.
type Outbox interface {
	// Pending returns up to limit of the oldest items with a sequence number above after that have not been acknowledged.
	// The link keeps one batch in flight and asks again once it is acknowledged, so it always passes 0.
	Pending(after uint64, limit int) []wire.OutboxItem
	// Ack forgets the items of epoch up to seq, and all of older epochs.
	Ack(epoch, seq uint64) error
}

// OutboxNotifier is an optional ability of an Outbox: C receives a value (coalesced) after something was appended.
// Without it, new items are found with the next heartbeat.
type OutboxNotifier interface {
	C() <-chan struct{}
}

// Options configures a Client. Addresses, TLS, Node and Desired are required.
type Options struct {
	// Addresses are the relays' host:port, tried in turn, starting with the first.
	Addresses []string
	// TLS returns the configuration for the next connection: client certificate and the CAs of the relay. It is asked before
	// each dial, so that a renewed certificate is used without a restart.
	TLS     func() (*tls.Config, error)
	Node    string // the node's name, for the relay to compare with the certificate
	Version string // of this software, for people
	Desired Desired
	Outbox  Outbox // may be nil
	Log     *slog.Logger

	Heartbeat   time.Duration // asked of the relay, default 15 s
	MaxBackoff  time.Duration // longest wait between two attempts, default 30 s
	DialTimeout time.Duration // of connect, TLS and WebSocket together, default 15 s
	// Window is how long reports are collected before a batch is sent, default 10 ms.
	Window time.Duration
	// Dial opens the TCP connection that TLS then runs over; default a net.Dialer without keep-alives, because the link's own
	// heartbeats do that, and idle bytes cost money on mobile networks.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Clock is told the time that an authenticated relay has, whenever one answers a dial. May be nil; must not block.
	Clock func(relay time.Time)
	// Expired is told that a relay refused this gateway's certificate as expired, or as one of a CA of the past. May be nil; must
	// not block.
	Expired func()
	// Alive is called whenever the loop of the session has gone round, every 15 s at the least, connected or not. May be nil; must not block.
	Alive func()
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.Heartbeat, 15*time.Second)
	set(&o.MaxBackoff, 30*time.Second)
	set(&o.DialTimeout, 15*time.Second)
	set(&o.Window, 10*time.Millisecond)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	if o.Clock == nil {
		o.Clock = func(time.Time) {}
	}
	if o.Expired == nil {
		o.Expired = func() {}
	}
	return o
}

// Status is a snapshot of the link for people and tests. Counters count since the process started.
type Status struct {
	Connected bool      `json:"connected"`           // a session is open: Welcome has been received
	InSync    bool      `json:"inSync"`              // everything the relay knew when the session began is durable here
	Since     time.Time `json:"since"`               // when Connected last changed
	Address   string    `json:"address"`             // that is, or was last, dialled
	Relay     string    `json:"relay,omitempty"`     // the relay's own name
	Epoch     uint64    `json:"epoch,omitempty"`     // of the session
	LastError string    `json:"lastError,omitempty"` // why the last session or attempt ended, with what to do about it
	ErrorAt   time.Time `json:"errorAt,omitzero"`

	Attempts        uint64 `json:"attempts"` // dials
	Sessions        uint64 `json:"sessions"`
	FramesSent      uint64 `json:"framesSent"`
	FramesReceived  uint64 `json:"framesReceived"`
	BytesSent       uint64 `json:"bytesSent"` // of frames, without WebSocket, TLS and TCP
	BytesReceived   uint64 `json:"bytesReceived"`
	ObjectsReceived uint64 `json:"objectsReceived"` // put by commits
	DeletesReceived uint64 `json:"deletesReceived"`
	CommitsApplied  uint64 `json:"commitsApplied"`
	ReportsSent     uint64 `json:"reportsSent"`    // bodies
	ReportsPending  int    `json:"reportsPending"` // keys whose newest body the relay has not acknowledged
	OutboxSent      uint64 `json:"outboxSent"`
}
