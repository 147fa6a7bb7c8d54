package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// Protocol versions that this build speaks.
const (
	ProtoMin = 1
	ProtoMax = 1
)

// Subprotocol is the WebSocket subprotocol of the link.
const Subprotocol = "skerry.v1"

// LinkPath is where a relay accepts links.
const LinkPath = "/v1/link"

// HeaderRelay is set by a relay on each HTTP answer, so that an agent can tell a relay that refuses from something else.
const HeaderRelay = "Skerry-Relay"

// HeaderTime is set beside it to the relay's clock (RFC 3339), by which certificates are judged. Gateways often have none.
const HeaderTime = "Skerry-Time"

// Limits of frames. A frame is checked against all of them before anything is allocated for it.
const (
	// MaxFrame is the largest frame either side may announce. It holds the largest object that etcd takes (1.5 MiB).
	MaxFrame = 4 << 20
	// MinFrame is the smallest limit a side may announce.
	MinFrame = 16 << 10
	// MaxItems is the largest number of elements of any array in a frame.
	MaxItems = 8192
	// MaxKey is the longest key, bytes: kind, namespace (63), name (253), UID (36) and separators, with room to spare.
	MaxKey = 512
	// MaxElsewhere is the largest number of addresses in a Close, and MaxAddress the longest of them, bytes.
	MaxElsewhere = 8
	MaxAddress   = 255
	// MaxText is the longest name or reason, bytes.
	MaxText = 1024

	maxDepth  = 16    // nesting, of fields that this build does not know too
	maxValues = 65536 // MessagePack values in one frame
)

// Errors that callers may tell apart.
var (
	ErrFrame        = errors.New("malformed frame")
	ErrUnknownFrame = errors.New("unknown frame type")
)

// Frame is one message of the link: one binary WebSocket message.
type Frame interface {
	Type() FrameType
	msgp.Marshaler
	msgp.Unmarshaler
	msgp.Sizer
}

// Type returns the frame's type byte.
func (*Hello) Type() FrameType      { return TypeHello }
func (*Welcome) Type() FrameType    { return TypeWelcome }
func (*Compare) Type() FrameType    { return TypeCompare }
func (*Entries) Type() FrameType    { return TypeEntries }
func (*CommitPart) Type() FrameType { return TypeCommit }
func (*Ack) Type() FrameType        { return TypeAck }
func (*Synced) Type() FrameType     { return TypeSynced }
func (*Report) Type() FrameType     { return TypeReport }
func (*ReportAck) Type() FrameType  { return TypeReportAck }
func (*Outbox) Type() FrameType     { return TypeOutbox }
func (*OutboxAck) Type() FrameType  { return TypeOutboxAck }
func (*Ping) Type() FrameType       { return TypePing }
func (*Pong) Type() FrameType       { return TypePong }
func (*Close) Type() FrameType      { return TypeClose }
func (*Offer) Type() FrameType      { return TypeOffer }
func (*Want) Type() FrameType       { return TypeWant }

// empty returns a new frame of the type, or nil.
func (t FrameType) empty() Frame {
	switch t {
	case TypeHello:
		return new(Hello)
	case TypeWelcome:
		return new(Welcome)
	case TypeCompare:
		return new(Compare)
	case TypeEntries:
		return new(Entries)
	case TypeCommit:
		return new(CommitPart)
	case TypeAck:
		return new(Ack)
	case TypeSynced:
		return new(Synced)
	case TypeReport:
		return new(Report)
	case TypeReportAck:
		return new(ReportAck)
	case TypeOutbox:
		return new(Outbox)
	case TypeOutboxAck:
		return new(OutboxAck)
	case TypePing:
		return new(Ping)
	case TypePong:
		return new(Pong)
	case TypeClose:
		return new(Close)
	case TypeOffer:
		return new(Offer)
	case TypeWant:
		return new(Want)
	}
	return t.emptyStream()
}

// String returns the type's name.
func (t FrameType) String() string {
	names := [...]string{"", "hello", "welcome", "compare", "entries", "commit", "ack", "synced", "report", "report-ack", "outbox",
		"outbox-ack", "ping", "pong", "close", "offer", "want"}
	if int(t) >= len(names) || t == 0 {
		return t.streamName()
	}
	return names[t]
}

// Append encodes f at the end of b.
func Append(b []byte, f Frame) ([]byte, error) {
	b = append(b, byte(f.Type()))
	b, err := f.MarshalMsg(b)
	if err != nil {
		return nil, fmt.Errorf("encoding a %v frame: %w", f.Type(), err)
	}
	return b, nil
}

// Encode encodes f into fresh memory.
func Encode(f Frame) ([]byte, error) { return Append(make([]byte, 0, 1+f.Msgsize()), f) }

// Decode decodes one frame. The frame does not alias b. An unknown type that may be ignored gives (nil, nil); another
// unknown type gives ErrUnknownFrame; anything that breaks the encoding, a limit or a field's rules gives ErrFrame.
func Decode(b []byte) (Frame, error) {
	if len(b) < 2 || len(b) > MaxFrame || b[0] > 0x7f {
		return nil, fmt.Errorf("%w: %d bytes", ErrFrame, len(b))
	}
	t := FrameType(b[0])
	f := t.empty()
	if f == nil && t >= typeFirstOptional {
		return nil, nil
	}
	if f == nil {
		return nil, fmt.Errorf("%w %d", ErrUnknownFrame, t)
	}
	w := walker{rest: b[1:], values: maxValues}
	if err := w.value(0); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	if len(w.rest) != 0 {
		return nil, fmt.Errorf("%w: %v: %d bytes after the body", ErrFrame, t, len(w.rest))
	}
	if _, err := f.UnmarshalMsg(b[1:]); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	if err := validate(f); err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrFrame, t, err)
	}
	return f, nil
}

// walker runs over a MessagePack value without taking memory, and checks that every declared length is really there.
// The generated decoders allocate by declared length; after this walk a length cannot be larger than what was received.
type walker struct {
	rest   []byte
	values int // that may still come
}

var (
	errTruncated = errors.New("a declared length is larger than what follows")
	errDepth     = errors.New("nested too deep")
	errValues    = errors.New("too many values")
	errType      = errors.New("a reserved type byte")
)

func (w *walker) value(depth int) error {
	if len(w.rest) == 0 {
		return errTruncated
	}
	if w.values--; w.values < 0 {
		return errValues
	}
	c := w.rest[0]
	w.rest = w.rest[1:]
	switch {
	case c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3:
		return nil
	case c <= 0x8f:
		return w.elements(2*uint64(c&0x0f), depth)
	case c <= 0x9f:
		return w.elements(uint64(c&0x0f), depth)
	case c <= 0xbf:
		return w.bytes(uint64(c & 0x1f))
	case c == 0xc1:
		return errType
	case c <= 0xc6: // bin 8, 16, 32
		return w.counted(1<<(c-0xc4), 0)
	case c <= 0xc9: // ext 8, 16, 32: a type byte more
		return w.counted(1<<(c-0xc7), 1)
	case c <= 0xcb: // float 32, 64
		return w.bytes(4 << (c - 0xca))
	case c <= 0xcf: // uint 8 … 64
		return w.bytes(1 << (c - 0xcc))
	case c <= 0xd3: // int 8 … 64
		return w.bytes(1 << (c - 0xd0))
	case c <= 0xd8: // fixext 1 … 16
		return w.bytes(1 + 1<<(c-0xd4))
	case c <= 0xdb: // str 8, 16, 32
		return w.counted(1<<(c-0xd9), 0)
	}
	n, err := w.length(2 << (c & 1)) // array 16, 32, map 16, 32
	if err != nil {
		return err
	}
	if c >= 0xde {
		n *= 2
	}
	return w.elements(n, depth)
}

func (w *walker) length(size int) (uint64, error) {
	if len(w.rest) < size {
		return 0, errTruncated
	}
	var buf [8]byte
	copy(buf[8-size:], w.rest[:size])
	w.rest = w.rest[size:]
	return binary.BigEndian.Uint64(buf[:]), nil
}

func (w *walker) counted(size int, more uint64) error {
	n, err := w.length(size)
	if err != nil {
		return err
	}
	return w.bytes(n + more)
}

func (w *walker) bytes(n uint64) error {
	if n > uint64(len(w.rest)) {
		return errTruncated
	}
	w.rest = w.rest[n:]
	return nil
}

func (w *walker) elements(n uint64, depth int) error {
	if depth >= maxDepth {
		return errDepth
	}
	if n > uint64(len(w.rest)) {
		return errTruncated
	}
	for range n {
		if err := w.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// validate checks what the encoding alone does not: keys, sizes of texts, and fields that depend on each other.
func validate(f Frame) error {
	switch t := f.(type) {
	case *Hello:
		if t.ProtoMin == 0 || t.ProtoMin > t.ProtoMax {
			return fmt.Errorf("protocol versions %d to %d", t.ProtoMin, t.ProtoMax)
		}
		if _, err := ParseOutline(t.Digest); err != nil {
			return err
		}
		return errors.Join(checkText("node", t.Node), checkText("agent", t.Agent), checkStreams(t.Streams))
	case *Welcome:
		return errors.Join(checkText("relay", t.Relay), checkStreams(t.Streams))
	case *Entries:
		for i := range t.Entries {
			if err := errors.Join(checkKey(t.Entries[i].Key), checkText("uid", t.Entries[i].Version.UID)); err != nil {
				return err
			}
		}
	case *CommitPart:
		return validateCommit(t)
	case *Offer:
		return validateOffer(t)
	case *Want:
		if t.List && len(t.Keys) > 0 {
			return errors.New("asks for a list and for keys")
		}
		return checkKeys(t.Keys)
	case *Report:
		for i := range t.Items {
			if err := checkKey(t.Items[i].Key); err != nil {
				return err
			}
		}
	case *Outbox:
		for i := range t.Items {
			if err := checkText("kind", t.Items[i].Kind); err != nil {
				return err
			}
		}
	case *Close:
		return errors.Join(checkText("reason", t.Reason), checkAddresses(t.Elsewhere))
	case StreamFrame:
		return validateStream(t)
	}
	return nil
}

func validateCommit(t *CommitPart) error {
	for i := range t.Put {
		o := &t.Put[i]
		if err := errors.Join(checkKey(o.Key), checkText("uid", o.Version.UID)); err != nil {
			return err
		}
		if o.Absent != (len(o.Body) == 0) {
			return fmt.Errorf("%s: absent is %t with a body of %d bytes", o.Key, o.Absent, len(o.Body))
		}
	}
	return checkKeys(t.Delete)
}

func validateOffer(t *Offer) error {
	if len(t.Sum) > 0 && (len(t.Sum) != len(Sum{}) || len(t.Items) > 0) || len(t.Sum)+len(t.Items) == 0 {
		return fmt.Errorf("a sum of %d bytes and %d items: either a sum of %d bytes or items are needed", len(t.Sum), len(t.Items), len(Sum{}))
	}
	for i := range t.Items {
		if err := checkKey(t.Items[i].Key); err != nil {
			return err
		}
	}
	return nil
}

func checkAddresses(addresses []string) error {
	if len(addresses) > MaxElsewhere {
		return fmt.Errorf("%d addresses, at most %d are allowed", len(addresses), MaxElsewhere)
	}
	for _, a := range addresses {
		if err := CheckAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// CheckAddress reports whether a is an address that an agent may be sent to: host:port, printable ASCII, at most MaxAddress bytes.
func CheckAddress(a string) error {
	if len(a) > MaxAddress {
		return fmt.Errorf("an address of %d bytes, at most %d are allowed", len(a), MaxAddress)
	}
	for i := range len(a) {
		if a[i] <= ' ' || a[i] >= 0x7f || a[i] == '/' || a[i] == '@' {
			return fmt.Errorf("address %q: holds other characters than an address", clip(a))
		}
	}
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("address %q: %w", clip(a), err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return fmt.Errorf("address %q: a host and a port from 1 to 65535 are needed", clip(a))
	}
	return nil
}

func checkKeys(keys []Key) error {
	for _, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(k Key) error {
	if len(k) > MaxKey {
		return fmt.Errorf("a key of %d bytes, at most %d are allowed", len(k), MaxKey)
	}
	for i := range len(k) {
		if k[i] <= ' ' || k[i] >= 0x7f {
			return fmt.Errorf("key %q: holds other than printable ASCII characters", clip(string(k)))
		}
	}
	_, err := ParseKey(string(k))
	return err
}

// ClipText makes a text one that a peer takes, of at most so many bytes: of other bytes than UTF-8, also of half a character, a peer would
// refuse the frame.
func ClipText(s string, most int) string {
	if s = strings.ToValidUTF8(s, "?"); len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}

func checkText(field, s string) error {
	if len(s) > MaxText {
		return fmt.Errorf("field %s: %d bytes, at most %d are allowed", field, len(s), MaxText)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("field %s is not UTF-8", field)
	}
	return nil
}
