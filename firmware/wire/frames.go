package wire

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

// The limit of arrays would hold for bodies, too: those have MaxFrame of their own, and Decode has bounded them before.
//
//msgp:limit arrays:8192 maps:64
//msgp:replace Key with:string
//msgp:replace Rules with:uint32
//msgp:replace BucketSet with:uint64
//msgp:replace CloseCode with:uint16
//msgp:ignore FrameType

// FrameType is the first byte of a frame.
type FrameType uint8

// The frame types. 1–31 are control frames of this page; 32–63 are those of streams (streams.go). A receiver ignores unknown types from 64 on, and ends the session on other unknown ones.
const (
	TypeHello     FrameType = 1
	TypeWelcome   FrameType = 2
	TypeCompare   FrameType = 3
	TypeEntries   FrameType = 4
	TypeCommit    FrameType = 5
	TypeAck       FrameType = 6
	TypeSynced    FrameType = 7
	TypeReport    FrameType = 8
	TypeReportAck FrameType = 9
	TypeOutbox    FrameType = 10
	TypeOutboxAck FrameType = 11
	TypePing      FrameType = 12
	TypePong      FrameType = 13
	TypeClose     FrameType = 14
	TypeOffer     FrameType = 15
	TypeWant      FrameType = 16

	typeFirstOptional FrameType = 64
)

// Hello is the agent's first frame.
type Hello struct {
	ProtoMin  uint16   `msg:"min"`             // lowest protocol version the agent speaks
	ProtoMax  uint16   `msg:"max"`             // highest
	Node      string   `msg:"node"`            // whom the agent believes to be; the certificate decides
	Agent     string   `msg:"agent,omitempty"` // software version, for people
	Heartbeat uint32   `msg:"hb"`              // heartbeat interval the agent would like, ms
	MaxFrame  uint32   `msg:"mf"`              // largest frame the agent takes, bytes
	Rules     Rules    `msg:"rules"`           // trim rules of what it holds, 0 if it holds nothing
	Digest    []byte   `msg:"sum,omitempty"`   // Digest.Outline of what it holds
	Revisions []uint64 `msg:"rev,omitempty"`   // PackRevisions of the highest resourceVersion it was told of, per kind
	Kinds     uint32   `msg:"kn,omitempty"`    // KindsKnown; 0: KindsAtFirst
	Streams   uint32   `msg:"sw,omitempty"`    // bytes of all streams' data that may be on their way to it; 0: it has no streams
}

// Welcome is the relay's answer to Hello.
type Welcome struct {
	Proto     uint16 `msg:"proto"`        // protocol version of this session
	Relay     string `msg:"relay"`        // name of the relay instance, for people
	Epoch     uint64 `msg:"ep"`           // number of this session of the node
	Heartbeat uint32 `msg:"hb"`           // heartbeat interval of this session, ms
	MaxFrame  uint32 `msg:"mf"`           // largest frame the relay takes, bytes
	Time      int64  `msg:"t"`            // relay's clock, ms since 1970, for diagnosis
	Kinds     uint32 `msg:"kn,omitempty"` // KindsKnown of the relay; 0: KindsAtFirst
	// Streams is, as in Hello, what may be on its way to the relay.
	Streams uint32 `msg:"sw,omitempty"`
}

// Compare asks for the entries of the given buckets.
type Compare struct {
	Buckets BucketSet `msg:"b"` // bit i stands for bucket i
}

// Entries answers Compare with all entries of the buckets that were asked for, in as many frames as it takes.
type Entries struct {
	Entries []EntryItem `msg:"e,omitempty"`
	More    bool        `msg:"m,omitempty"` // another Entries frame follows
}

// EntryItem is an Entry as Entries carries it.
type EntryItem struct {
	Key     Key     `msg:"k"`
	Version Version `msg:"v"`
}

// CommitPart is one commit, or a part of it. The receiver applies a commit when its last part is there, atomically.
type CommitPart struct {
	ID        uint64   `msg:"id"`            // of the commit; counts up from 1 in a session
	Part      uint32   `msg:"p,omitempty"`   // counts up from 0 within the commit
	More      bool     `msg:"m,omitempty"`   // another part follows, with no other commit between
	Rules     Rules    `msg:"rules"`         // trim rules that made the bodies
	Put       []Object `msg:"put,omitempty"` // references before what refers to them
	Delete    []Key    `msg:"del,omitempty"`
	Revisions []uint64 `msg:"rev,omitempty"` // last part only: PackRevisions of Commit.Revisions
}

// Ack says that the commits up to ID are durable at the agent.
type Ack struct {
	ID uint64 `msg:"id"`
}

// Synced says that the agent has acknowledged everything that the relay knew for it when the session began.
type Synced struct{}

// Offer says which status documents the agent has, without their bodies: either by one sum over all of them, or by a list. The
// relay answers each offer with a Want of the same Seq. One offer is unanswered at a time.
type Offer struct {
	Seq   uint64      `msg:"s"`           // counts up from 1 in a session
	Sum   []byte      `msg:"h,omitempty"` // OfferSum of all documents, 16 bytes; without Items
	Items []OfferItem `msg:"i,omitempty"` // some of them; several offers follow each other if they do not fit one frame
}

// OfferItem names one status document.
type OfferItem struct {
	Key  Key      `msg:"k"`
	Hash [16]byte `msg:"h"` // first 16 bytes of the SHA-256 of the body
}

// Want answers an Offer, or asks, at any time of a session, for documents that the relay has lost sight of. The agent sends the
// newest bodies of Keys as reports; of a key that it no longer has, nothing.
type Want struct {
	Seq  uint64 `msg:"s,omitempty"` // of the offer that this answers; 0: of none
	List bool   `msg:"l,omitempty"` // the relay does not have all that the sum stands for: offer the list
	Keys []Key  `msg:"k,omitempty"`
}

// Report carries the newest state of things the agent is responsible for.
type Report struct {
	Seq   uint64       `msg:"s"` // counts up from 1 in a session
	Items []ReportItem `msg:"i"`
}

// ReportItem is one status document.
type ReportItem struct {
	Key  Key    `msg:"k"`
	Body []byte `msg:"b,limit=4194304"` // canonical MessagePack
}

// ReportAck says that the relay has taken over the reports up to Seq.
type ReportAck struct {
	Seq uint64 `msg:"s"`
}

// Outbox carries messages that may not be lost, in the order of their sequence numbers.
type Outbox struct {
	Items []OutboxItem `msg:"i"`
}

// OutboxItem is one message that may not be lost. (Epoch, Seq) is unique for a node for ever: Epoch changes when the outbox
// is made anew, Seq counts up within it.
type OutboxItem struct {
	Epoch uint64 `msg:"e"`
	Seq   uint64 `msg:"s"`
	Kind  string `msg:"k"`               // KindOfEvent
	Body  []byte `msg:"b,limit=4194304"` // canonical MessagePack, its shape depends on Kind
}

// OutboxAck says that the items of Epoch up to Seq are safe at the relay's side; the agent may forget them.
type OutboxAck struct {
	Epoch uint64 `msg:"e"`
	Seq   uint64 `msg:"s"`
}

// Ping is sent by the agent when either direction was silent for a heartbeat; Pong answers it at once.
type Ping struct{}

// Pong answers Ping.
type Pong struct{}

// Close is the last frame of a side that ends the session on purpose.
type Close struct {
	Code       CloseCode `msg:"c"`
	Reason     string    `msg:"r,omitempty"`  // for people
	RetryAfter uint32    `msg:"ra,omitempty"` // relay to agent: do not dial again before so many ms
	// Elsewhere names relays, host:port, that the agent should dial first, in this order. At most MaxElsewhere.
	Elsewhere []string `msg:"e,omitempty"`
}

// CloseCode says why a session was ended.
type CloseCode uint16

// The reasons to end a session.
const (
	CloseGoingAway   CloseCode = 1  // the sender shuts down; another address, or the same one later, will do
	CloseReplaced    CloseCode = 2  // a newer session of the same node took over
	CloseProtocol    CloseCode = 3  // the peer broke the protocol
	CloseVersion     CloseCode = 4  // no protocol version in common
	CloseRevoked     CloseCode = 5  // the node's certificate or the node itself is revoked
	CloseForbidden   CloseCode = 6  // the certificate does not speak for that node
	CloseLimit       CloseCode = 7  // the peer exceeded a quota
	CloseOverloaded  CloseCode = 8  // the relay takes no more now; see RetryAfter
	CloseOlderState  CloseCode = 9  // the cluster is older than what the agent holds (restored etcd)
	CloseHeartbeat   CloseCode = 10 // nothing was heard for two heartbeats
	CloseInternal    CloseCode = 11 // the sender failed; the reason says how
	CloseUnavailable CloseCode = 12 // the relay cannot reach the Kubernetes API
	CloseCertificate CloseCode = 13 // the session's certificate has ended, or its CA was retired: come again with a newer one
)

// String returns the code's name as it appears in logs and metrics.
func (c CloseCode) String() string {
	names := [...]string{"", "going-away", "replaced", "protocol-error", "no-common-version", "revoked", "forbidden", "limit",
		"overloaded", "older-state", "heartbeat", "internal", "unavailable", "certificate"}
	if int(c) >= len(names) || c == 0 {
		return "unknown"
	}
	return names[c]
}
