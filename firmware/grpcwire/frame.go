package grpcwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FrameHeader is the size of gRPC's message prefix: a compression flag and a big-endian length
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message).
const FrameHeader = 5

// readStep bounds how far a buffer grows ahead of the bytes that have arrived.
const readStep = 64 << 10

// What can be wrong with a frame or an answer.
var (
	ErrCompressed = errors.New("compressed message in an answer that may not have any")
	ErrTooLarge   = errors.New("answer exceeds the size limit")
	ErrNoStatus   = errors.New("answer ended without a gRPC status")
	ErrNoMessage  = errors.New("answer has no message")
	ErrMore       = errors.New("more than one message in the answer to a unary call")
)

// Frame returns m in a frame.
func Frame(m Message) []byte {
	b := Append(make([]byte, FrameHeader, 128), m)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-FrameHeader)) //nolint:gosec // messages are far below 4 GiB
	return b
}

// ReadFrame reads one message of at most limit bytes into buf. io.EOF says that there is none.
func ReadFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [FrameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err // io.EOF at a message's border
	}
	if head[0] != 0 {
		return buf, ErrCompressed
	}
	size := binary.BigEndian.Uint32(head[1:])
	if uint64(size) > uint64(limit) { //nolint:gosec // limits are not negative
		return buf, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrTooLarge, size, limit)
	}
	for n := int(size); len(buf) < n; {
		start := len(buf)
		step := min(n-start, readStep)
		buf = slices.Grow(buf, step)[:start+step]
		if _, err := io.ReadFull(r, buf[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return buf, err
		}
	}
	return buf, nil
}

// FrameCode is the code of a frame that cannot be read.
func FrameCode(err error) Code {
	switch {
	case errors.Is(err, ErrTooLarge):
		return ResourceExhausted
	case errors.Is(err, ErrCompressed):
		return Internal
	default:
		return Unavailable
	}
}

// CheckHeader refuses an answer that is not gRPC's.
func CheckHeader(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s: the socket does not serve gRPC", resp.Status)
	}
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, contentType) {
		return fmt.Errorf("content type %q: the socket does not serve gRPC", ct)
	}
	return nil
}

// Status returns a call's outcome: from the trailers, or from the headers if the answer is nothing else.
func Status(resp *http.Response) (Code, string, error) {
	h := resp.Trailer
	if h.Get(headerStatus) == "" {
		h = resp.Header
	}
	s := h.Get(headerStatus)
	if s == "" {
		return 0, "", ErrNoStatus
	}
	code, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, "", fmt.Errorf("gRPC status %q is no number", s)
	}
	return Code(code), percentDecode(h.Get(headerMessage)), nil
}

// percentDecode undoes the encoding of grpc-message. Invalid sequences stay as they are: the message is for
// people, and the protocol forbids to fail on it.
func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// percentEncode encodes a status message for its header: everything but printable ASCII, and the percent sign itself.
func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// timeoutHeader formats d as grpc-timeout: at most 8 digits and a unit, rounded up.
func timeoutHeader(d time.Duration) string {
	if d <= 0 {
		return "0n"
	}
	for _, u := range timeoutUnits[:5] {
		if v := int64((d-1)/u.size) + 1; v < 1e8 {
			return strconv.FormatInt(v, 10) + u.name
		}
	}
	return strconv.FormatInt(int64((d-1)/time.Hour)+1, 10) + "H"
}

var timeoutUnits = [...]struct {
	size time.Duration
	name string
}{{time.Nanosecond, "n"}, {time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}, {time.Hour, "H"}}

// parseTimeout reads grpc-timeout; what it cannot read, or what is longer than anybody waits, is no timeout.
func parseTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	v, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	for _, u := range timeoutUnits {
		if u.name == s[len(s)-1:] && v < uint64(1<<62/u.size) { //nolint:gosec // sizes are positive
			return time.Duration(v) * u.size, true //nolint:gosec // checked above
		}
	}
	return 0, false
}
