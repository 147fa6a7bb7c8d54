package modbus

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Plan implements device.Planner: the requests are those that a session of the same configuration sends, as long as the device
// refuses none of them.
func (d *Driver) Plan(cfg device.Config, points []device.Point, cycle time.Duration) (device.Plan, error) {
	c, err := parseConfig(cfg)
	if err != nil {
		return device.Plan{}, err
	}
	out := device.Plan{Line: c.line()}
	if c.broadcast {
		out.Note = broadcastOnly
		return out, nil
	}
	s := &session{config: c}
	p, err := s.makePlan(points)
	if err != nil {
		return device.Plan{}, err
	}
	var busy time.Duration
	for _, part := range p.parts {
		r := device.PlannedRequest{Text: part.request.String(), Points: part.members}
		ask, answer := c.framing.sizes(part.request)
		r.Bytes, r.Time = ask+answer, c.lineTime(ask, answer)
		busy += r.Time
		out.Requests = append(out.Requests, r)
	}
	if cycle > 0 {
		out.Load = busy.Seconds() / cycle.Seconds()
	}
	switch {
	case len(p.unread) > 0:
		for i, why := range p.unread {
			out.Note = fmt.Sprintf("%s is not read: %s", p.compiled[i], why)
		}
	case c.serial == nil:
		out.Note = "the time of a request over TCP is the network's and the device's, and is not computed"
	case cycle > 0 && len(p.parts) > 0:
		out.Note = fmt.Sprintf("the device's own time to answer comes on top: each 10 ms of it are %.1f %% of the cycle", float64(len(p.parts))/cycle.Seconds())
	}
	return out, nil
}

// line names what the requests of a configuration share with those of others.
func (c *config) line() string {
	switch {
	case c.serial != nil:
		return c.serial.String()
	case c.listen != "":
		return "the gateway that connects to " + c.listen
	}
	return c.endpoint
}

// sizes are the bytes of a read's request and of its reply.
func (f framing) sizes(r *request) (request, reply int) {
	request, reply = 1+len(r.pdu.Data), 2+r.want // function; function and byte count
	switch f {
	case framingRTU:
		return request + 3, reply + 3 // unit and CRC
	case framingASCII:
		return 2*(request+2) + 3, 2*(reply+2) + 3 // unit and LRC as two digits each byte, colon, CR LF
	default:
		return request + headerSize, reply + headerSize
	}
}

// lineTime is how long a request and its reply keep a serial line, without the unit's own time: the silence before the
// request, its characters, the silence by which an RTU unit knows that it has ended (Serial Line V1.02, section 2.5.1.1), and the
// reply's characters. 0 if there is no serial line.
func (c *config) lineTime(request, reply int) time.Duration {
	if c.serial == nil {
		return 0
	}
	t := max(c.requestGap, c.silence) + c.serial.CharTime(request+reply)
	if c.framing == framingRTU {
		t += c.silence
	}
	return t
}
