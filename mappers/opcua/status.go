package opcua

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

// quality maps a status code's severity (Part 4, section 7.39.1).
func quality(code ua.StatusCode) device.Quality {
	switch code >> 30 {
	case 0:
		return device.Good
	case 1:
		return device.Uncertain
	default:
		return device.Bad
	}
}

// overflowed tells that the server dropped values of a monitored item's queue: info type DataValue with the overflow bit.
func overflowed(code ua.StatusCode) bool { return code&0x0c00 == 0x0400 && code&0x80 != 0 }

// statusText is a status code in words: the standard's name, and its explanation.
func statusText(code ua.StatusCode) string {
	d, ok := ua.StatusCodes[code&0xffff0000]
	if !ok {
		return fmt.Sprintf("status 0x%08X", uint32(code))
	}
	// gopcua writes initialisms in capitals; everybody else looks for the standard's names.
	name := strings.NewReplacer("ID", "Id", "URI", "Uri", "URL", "Url", "TCP", "Tcp").Replace(strings.TrimPrefix(d.Name, "Status"))
	if d.Text == "" {
		return name
	}
	return name + ": " + strings.TrimSuffix(d.Text, ".")
}

// reason says why a request failed. It does not change while the cause does not: no ports, no times.
func reason(err error) string {
	var code ua.StatusCode
	var op *net.OpError
	var sys *os.SyscallError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &code):
		return statusText(code)
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	default:
		return err.Error()
	}
}

// lostSession tells that a status means that the session or channel is gone.
func lostSession(err error) bool {
	var code ua.StatusCode
	if !errors.As(err, &code) {
		return false
	}
	switch code {
	case ua.StatusBadSessionIDInvalid, ua.StatusBadSessionClosed, ua.StatusBadSessionNotActivated, ua.StatusBadSecureChannelIDInvalid,
		ua.StatusBadSecureChannelClosed, ua.StatusBadSecureChannelTokenUnknown, ua.StatusBadSecurityChecksFailed, ua.StatusBadServerHalted, ua.StatusBadShutdown:
		return true
	default:
		return false
	}
}
