package wire

import (
	"errors"
	"fmt"
)

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:8192 maps:64
//msgp:replace ResetCode with:uint16

// The frames of streams: what belongs to no state, but to somebody who waits for it now (logs, exec, port-forward, requests). Package
// stream multiplexes them. Both sides may send each of them.
const (
	TypeStreamOpen   FrameType = 32
	TypeStreamAccept FrameType = 33
	TypeStreamData   FrameType = 34
	TypeStreamWindow FrameType = 35
	TypeStreamEnd    FrameType = 36
	TypeStreamReset  FrameType = 37
)

// Services that streams are opened to.
const (
	ServiceKubelet = "kubelet" // relay → agent: HTTP/1.1 to the agent's kubelet API
	ServiceCloud   = "cloud"   // agent → relay: HTTP/1.1 to what a relay offers to a node
)

// Limits of streams.
const (
	// MaxService is the longest name of a service, bytes: ASCII letters, digits, '-' and '.'.
	MaxService = 63
	// MaxStreamData is the most bytes in one StreamData: such a frame fits MinFrame, and one TLS record.
	MaxStreamData = 16<<10 - 256
	// StreamCost is what a StreamData takes of both windows beside its bytes: an empty frame costs work and memory, too.
	StreamCost = 512
	// StreamPipe is what a side of this build announces in hello and welcome: so many bytes of all streams may be on their way to it.
	// It bounds what a state frame can find before it in the network's buffers.
	StreamPipe = 256 << 10
	// MinStreamWindow and MaxStreamWindow bound what a side may announce for one stream, or for all, bytes.
	MinStreamWindow = 16 << 10
	MaxStreamWindow = 16 << 20
)

// StreamOpen asks for a new stream to a service. The agent's streams have odd numbers, the relay's even ones, each greater than the
// one before.
type StreamOpen struct {
	ID      uint32 `msg:"i"`
	Service string `msg:"s"`
	Window  uint32 `msg:"w"` // bytes that may be sent to the opener before it returns some with StreamWindow
}

// StreamAccept answers StreamOpen: data may flow in both directions. The other answer is StreamReset.
type StreamAccept struct {
	ID     uint32 `msg:"i"`
	Window uint32 `msg:"w"` // bytes that may be sent to the acceptor
}

// StreamData carries bytes of a stream, in order.
type StreamData struct {
	ID   uint32 `msg:"i"`
	Data []byte `msg:"b,limit=16128"`
}

// StreamWindow gives back what StreamData had taken of a window: of the stream's when its reader has read it; of that of all
// streams (ID 0) when it has arrived.
type StreamWindow struct {
	ID    uint32 `msg:"i,omitempty"`
	Bytes uint32 `msg:"n"`
}

// StreamEnd says that its sender sends no more data on the stream.
type StreamEnd struct {
	ID uint32 `msg:"i"`
}

// StreamReset ends a stream in both directions, or refuses to open it. Nothing follows on this stream; what the other side had sent
// before it knew is ignored.
type StreamReset struct {
	ID     uint32    `msg:"i"`
	Code   ResetCode `msg:"c"`
	Reason string    `msg:"r,omitempty"` // for people
}

// ResetCode says why a stream was reset.
type ResetCode uint16

// The reasons to reset a stream.
const (
	ResetClosed    ResetCode = 1 // its sender reads no more; what it sent before is to be read to its end
	ResetCancelled ResetCode = 2 // its sender has lost interest
	ResetFailed    ResetCode = 3 // its sender failed; the reason says how
	ResetService   ResetCode = 4 // refused: there is no such service
	ResetLimit     ResetCode = 5 // refused: too many streams are open, or are opened in a short time
	ResetLeaving   ResetCode = 6 // refused: the sender shuts down
)

// String returns the code's name as it appears in logs and metrics.
func (c ResetCode) String() string {
	names := [...]string{"", "closed", "cancelled", "failed", "service", "limit", "leaving"}
	if int(c) >= len(names) || c == 0 {
		return "unknown"
	}
	return names[c]
}

// StreamFrame is a frame of streams.
type StreamFrame interface {
	Frame
	// Stream returns the number of the stream that it is about, 0 for all.
	Stream() uint32
}

// Stream returns the number of the stream that the frame is about, 0 for all.
func (f *StreamOpen) Stream() uint32   { return f.ID }
func (f *StreamAccept) Stream() uint32 { return f.ID }
func (f *StreamData) Stream() uint32   { return f.ID }
func (f *StreamWindow) Stream() uint32 { return f.ID }
func (f *StreamEnd) Stream() uint32    { return f.ID }
func (f *StreamReset) Stream() uint32  { return f.ID }

// Type returns the frame's type byte.
func (*StreamOpen) Type() FrameType   { return TypeStreamOpen }
func (*StreamAccept) Type() FrameType { return TypeStreamAccept }
func (*StreamData) Type() FrameType   { return TypeStreamData }
func (*StreamWindow) Type() FrameType { return TypeStreamWindow }
func (*StreamEnd) Type() FrameType    { return TypeStreamEnd }
func (*StreamReset) Type() FrameType  { return TypeStreamReset }

// emptyStream returns a new frame of the type, or nil.
func (t FrameType) emptyStream() Frame {
	switch t {
	case TypeStreamOpen:
		return new(StreamOpen)
	case TypeStreamAccept:
		return new(StreamAccept)
	case TypeStreamData:
		return new(StreamData)
	case TypeStreamWindow:
		return new(StreamWindow)
	case TypeStreamEnd:
		return new(StreamEnd)
	case TypeStreamReset:
		return new(StreamReset)
	}
	return nil
}

func (t FrameType) streamName() string {
	names := [...]string{"stream-open", "stream-accept", "stream-data", "stream-window", "stream-end", "stream-reset"}
	if i := int(t) - int(TypeStreamOpen); i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("type-%d", uint8(t))
}

func validateStream(f StreamFrame) error {
	if f.Stream() == 0 && f.Type() != TypeStreamWindow {
		return errors.New("the number of the stream is missing")
	}
	switch t := f.(type) {
	case *StreamOpen:
		return errors.Join(CheckService(t.Service), checkWindow(t.Window))
	case *StreamAccept:
		return checkWindow(t.Window)
	case *StreamData:
		if len(t.Data) == 0 || len(t.Data) > MaxStreamData {
			return fmt.Errorf("%d bytes of data, from 1 to %d are allowed", len(t.Data), MaxStreamData)
		}
	case *StreamWindow:
		if t.Bytes == 0 || t.Bytes > MaxStreamWindow {
			return fmt.Errorf("gives %d bytes back", t.Bytes)
		}
	case *StreamReset:
		return checkText("reason", t.Reason)
	}
	return nil
}

func checkWindow(n uint32) error {
	if n < MinStreamWindow || n > MaxStreamWindow {
		return fmt.Errorf("a window of %d bytes, from %d to %d are allowed", n, MinStreamWindow, MaxStreamWindow)
	}
	return nil
}

// checkStreams checks what hello and welcome say of streams.
func checkStreams(n uint32) error {
	if n == 0 {
		return nil
	}
	return checkWindow(n)
}

// CheckService reports whether s can be the name of a service.
func CheckService(s string) error {
	if s == "" || len(s) > MaxService {
		return fmt.Errorf("the name of a service has %d bytes, from 1 to %d are allowed", len(s), MaxService)
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return fmt.Errorf("service %q: holds other characters than letters, digits, '-' and '.'", clip(s))
		}
	}
	return nil
}
