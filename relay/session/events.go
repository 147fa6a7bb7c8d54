package session

import (
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// Event is what happens to a Machine.
type Event interface{ event() }

// The events.
type (
	// Received brings a frame from the agent, nil for one of a type that may be ignored; Size is its encoded length in bytes.
	Received struct {
		Frame wire.Frame
		Size  int
	}
	// Heard says that a message which takes its time has got on by a stride (wire.Pace).
	Heard struct{}
	// Dirty says that these keys of the node may have changed, appeared or gone.
	Dirty struct{ Keys []wire.Key }
	// Started answers Start.
	Started struct{ Err error }
	// OutboxStored answers StoreOutbox.
	OutboxStored struct{ Err error }
	// Wanted answers OfferAll and Offer with the Seq of the action: Keys are those whose bodies the Sink lacks, List says that it
	// does not have all that a sum stands for. With Seq 0 it comes unasked, because the Sink lost sight of what it had.
	Wanted struct {
		Seq  uint64
		List bool
		Keys []wire.Key
	}
	// Tick says that the time Wake named has come. Ticks at other times do no harm.
	Tick struct{}
	// Shut ends the session with a Close frame.
	Shut struct {
		Code       wire.CloseCode
		Reason     string
		RetryAfter time.Duration
		Elsewhere  []string // relays to dial first, host:port; malformed ones, and those beyond wire.MaxElsewhere, are left out
	}
	// Lost says that the connection broke.
	Lost struct{}
)

// Action is what a Machine wants done, in the order in which Step returns them.
type Action interface{ action() }

// The actions.
type (
	// Start claims the session for its epoch at the Sink, and answers with Started.
	Start struct{}
	// Send writes a frame.
	Send struct{ Frame wire.Frame }
	// Report hands a status document, which the node may write, to the Sink.
	Report struct {
		Key  wire.Key
		Body []byte
	}
	// OfferAll asks the Sink whether it has exactly the documents that Sum stands for (wire.OfferSum), and answers with Wanted.
	OfferAll struct {
		Seq uint64
		Sum wire.Sum
	}
	// Offer asks the Sink which of the documents it lacks, and answers with Wanted.
	Offer struct {
		Seq   uint64
		Items []wire.OfferItem
	}
	// StoreOutbox hands items to the Sink and answers with OutboxStored. At most one is under way.
	StoreOutbox struct{ Items []wire.OutboxItem }
	// Streamed brings a frame of a stream; no limit has been applied to it but that of its size.
	Streamed struct{ Frame wire.StreamFrame }
	// Hangup closes the connection after what was sent before. It is the last action of a session.
	Hangup struct {
		Code       wire.CloseCode // 0 if the connection was lost or the agent said goodbye
		Reason     string
		RetryAfter time.Duration // what the agent was told, to the millisecond
	}
	// Note tells the relay's operator something about this node.
	Note struct{ Text string }
)

func (Received) event()     {}
func (Heard) event()        {}
func (Dirty) event()        {}
func (Started) event()      {}
func (OutboxStored) event() {}
func (Wanted) event()       {}
func (Tick) event()         {}
func (Shut) event()         {}
func (Lost) event()         {}

func (Start) action()       {}
func (Send) action()        {}
func (Report) action()      {}
func (OfferAll) action()    {}
func (Offer) action()       {}
func (StoreOutbox) action() {}
func (Streamed) action()    {}
func (Hangup) action()      {}
func (Note) action()        {}
