package link

import (
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Event is what happens to a Machine. Events of a connection carry its number; those of an older one are ignored.
type Event interface{ event() }

// The events.
type (
	// Start begins to dial.
	Start struct{}
	// Stop ends the session with a Close frame. The machine stays down.
	Stop struct{ Reason string }
	// Tick says that the time Wake named has come. Ticks at other times do no harm.
	Tick struct{}
	// Opened says that the connection asked for by Dial is up: TLS and WebSocket included.
	Opened struct{ Conn uint64 }
	// Lost says that the connection could not be opened or broke. Err is fit for people: what failed and what to do.
	Lost struct {
		Conn       uint64
		Err        error
		RetryAfter time.Duration // asked for by the peer, 0 if it did not
	}
	// Received brings a frame; Size is its encoded length in bytes.
	Received struct {
		Conn  uint64
		Frame wire.Frame
		Size  int
	}
	// Heard says that a message which takes its time has got on by a stride (wire.Pace).
	Heard struct{ Conn uint64 }
	// Applied answers Apply.
	Applied struct {
		Conn uint64
		ID   uint64
		Err  error
	}
	// Reported offers the newest body of a key.
	Reported struct {
		Key  wire.Key
		Body []byte
	}
	// Withdrawn says that nothing is to be reported about the key any more.
	Withdrawn struct{ Key wire.Key }
	// OutboxChanged says that the outbox may hold new items.
	OutboxChanged struct{}
	// OutboxRead answers ReadOutbox.
	OutboxRead struct {
		Conn  uint64
		Items []wire.OutboxItem
	}
	// StreamSent says that a frame of a stream was written; Size is its encoded length in bytes.
	StreamSent struct {
		Conn uint64
		Size int
	}
	// StreamBroke says that a frame of a stream broke the rules.
	StreamBroke struct {
		Conn uint64
		Err  error
	}
)

// Action is what a Machine wants done, in the order in which Step returns them.
type Action interface{ action() }

// The actions.
type (
	// Dial opens a connection to the address To, host:port, and answers with Opened or Lost. Address is its index in
	// Options.Addresses, -1 if another relay named it.
	Dial struct {
		Conn    uint64
		To      string
		Address int
	}
	// Send writes a frame.
	Send struct {
		Conn  uint64
		Frame wire.Frame
	}
	// Hangup closes the connection, after what was sent before; streams end at once. Why is for those who use them.
	Hangup struct {
		Conn uint64
		Why  error
	}
	// StreamsUp says that the session's streams can be used; Peer is what the relay announced in its welcome.
	StreamsUp struct {
		Conn  uint64
		Peer  uint32
		Relay string
	}
	// Streamed brings a frame of a stream. One that breaks the rules is answered with StreamBroke.
	Streamed struct {
		Conn  uint64
		Frame wire.StreamFrame
	}
	// Apply makes a commit durable and answers with Applied. At most one is under way.
	Apply struct {
		Conn   uint64
		Commit wire.Commit
	}
	// ReadOutbox reads the oldest items and answers with OutboxRead. At most one is under way.
	ReadOutbox struct {
		Conn  uint64
		Limit int
	}
	// ForgetOutbox acknowledges items. It needs no answer; a ReadOutbox that follows must see its effect.
	ForgetOutbox struct{ Epoch, Seq uint64 }
	// Note tells people something. The machine limits how often.
	Note struct {
		Warn bool
		Text string
	}
)

func (Start) event()         {}
func (Stop) event()          {}
func (Tick) event()          {}
func (Opened) event()        {}
func (Lost) event()          {}
func (Received) event()      {}
func (Heard) event()         {}
func (Applied) event()       {}
func (Reported) event()      {}
func (Withdrawn) event()     {}
func (OutboxChanged) event() {}
func (OutboxRead) event()    {}
func (StreamSent) event()    {}
func (StreamBroke) event()   {}

func (Dial) action()         {}
func (Send) action()         {}
func (Hangup) action()       {}
func (StreamsUp) action()    {}
func (Streamed) action()     {}
func (Apply) action()        {}
func (ReadOutbox) action()   {}
func (ForgetOutbox) action() {}
func (Note) action()         {}
