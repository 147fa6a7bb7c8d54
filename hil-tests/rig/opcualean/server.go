package opcualean

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/ua"
)

// server is all servers of the process: they have the same nodes.
type server struct {
	requests, read, published, items atomic.Int64
	second                           atomic.Int64

	mu    sync.Mutex
	conns map[*conn]bool
}

func (s *server) counters() Counters {
	return Counters{Requests: s.requests.Load(), Read: s.read.Load(), Published: s.published.Load(), Items: s.items.Load()}
}

func (s *server) serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		c := &conn{s: s, nc: nc, subs: make(map[uint32]*subscription)}
		s.mu.Lock()
		if s.conns == nil {
			s.conns = make(map[*conn]bool)
		}
		s.conns[c] = true
		s.mu.Unlock()
		go func() {
			_ = c.run() // the client has gone, or speaks another language
			nc.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
}

// tick changes all values and publishes them.
func (s *server) tick(now time.Time) {
	s.second.Add(1)
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.publish(now)
	}
}

// value is what a node holds now.
func (s *server) value(node uint32) float64 { return float64(node) + float64(s.second.Load())/1000 }

// conn is one client.
type conn struct {
	s     *server
	nc    net.Conn
	chunk int // bytes that the client takes in one

	mu       sync.Mutex // guards what follows, and writing
	sequence uint32
	token    uint32
	out      []byte
	body     []byte
	subs     map[uint32]*subscription
	waiting  []publishRequest
}

type publishRequest struct{ request, handle uint32 }

// subscription has its items; unsent ones are those that no publish request was there for.
type subscription struct {
	id, sequence, nextItem uint32
	most                   int
	items                  []monitored
	due                    int // items from here on are still to be sent in this second
	quiet                  int
}

type monitored struct{ id, handle, node uint32 }

const headerSize = 24 // of a symmetric chunk: type, size, channel, token, sequence, request

func (c *conn) run() error {
	head := make([]byte, 8)
	var message []byte
	for {
		if _, err := io.ReadFull(c.nc, head); err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(head[4:])
		if size < 8 || size > 1<<20 {
			return errors.New("chunk of a strange size")
		}
		b := make([]byte, size-8)
		if _, err := io.ReadFull(c.nc, b); err != nil {
			return err
		}
		switch kind := string(head[:3]); kind {
		case "HEL":
			if err := c.hello(b); err != nil {
				return err
			}
		case "OPN":
			if err := c.open(b); err != nil {
				return err
			}
		case "MSG":
			if len(b) < 16 {
				return io.ErrUnexpectedEOF
			}
			message = append(message, b[16:]...)
			if head[3] == 'C' {
				continue
			}
			if err := c.dispatch(binary.LittleEndian.Uint32(b[12:]), message); err != nil {
				return err
			}
			message = nil
		case "CLO":
			return nil
		default:
			return fmt.Errorf("message %q", kind)
		}
	}
}

func (c *conn) hello(b []byte) error {
	if len(b) < 20 {
		return io.ErrUnexpectedEOF
	}
	c.chunk = int(binary.LittleEndian.Uint32(b[4:]))
	ack := []byte("ACKF\x1c\x00\x00\x00")
	for _, n := range []uint32{0, 65535, uint32(c.chunk), 0, 0} {
		ack = binary.LittleEndian.AppendUint32(ack, n)
	}
	_, err := c.nc.Write(ack)
	return err
}

// open answers an OpenSecureChannel request of policy None.
func (c *conn) open(b []byte) error {
	at := 4
	for range 3 { // policy, certificate, thumbprint
		if at+4 > len(b) {
			return io.ErrUnexpectedEOF
		}
		if n := int32(binary.LittleEndian.Uint32(b[at:])); n > 0 {
			at += int(n)
		}
		at += 4
	}
	if at+8 > len(b) {
		return io.ErrUnexpectedEOF
	}
	request := binary.LittleEndian.Uint32(b[at+4:])
	_, req, err := ua.DecodeService(b[at+8:])
	if err != nil {
		return err
	}
	r, ok := req.(*ua.OpenSecureChannelRequest)
	if !ok {
		return errors.New("no OpenSecureChannel request")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token++
	body, err := encode(&ua.OpenSecureChannelResponse{
		ResponseHeader: header(r.RequestHeader.RequestHandle), SecurityToken: &ua.ChannelSecurityToken{ChannelID: 1, TokenID: c.token, CreatedAt: time.Now(), RevisedLifetime: r.RequestedLifetime},
	})
	if err != nil {
		return err
	}
	out := append([]byte("OPNF"), 0, 0, 0, 0, 1, 0, 0, 0)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(ua.SecurityPolicyURINone)))
	out = append(out, ua.SecurityPolicyURINone...)
	out = append(out, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	c.sequence++
	out = binary.LittleEndian.AppendUint32(out, c.sequence)
	out = binary.LittleEndian.AppendUint32(out, request)
	out = append(out, body...)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)))
	_, err = c.nc.Write(out)
	return err
}

func header(handle uint32) *ua.ResponseHeader {
	return &ua.ResponseHeader{Timestamp: time.Now(), RequestHandle: handle, ServiceDiagnostics: &ua.DiagnosticInfo{}, AdditionalHeader: ua.NewExtensionObject(nil)}
}

func encode(res ua.Response) ([]byte, error) {
	head, err := ua.NewFourByteExpandedNodeID(0, ua.ServiceTypeID(res)).Encode()
	if err != nil {
		return nil, err
	}
	body, err := ua.Encode(res)
	return append(head, body...), err
}

// send writes a response in chunks. c.mu is held.
func (c *conn) send(request uint32, body []byte) error {
	most := c.chunk - headerSize
	c.out = c.out[:0]
	for first := true; first || len(body) > 0; first = false {
		part := body[:min(len(body), most)]
		body = body[len(part):]
		kind := byte('F')
		if len(body) > 0 {
			kind = 'C'
		}
		c.sequence++
		c.out = append(c.out, 'M', 'S', 'G', kind)
		for _, n := range [...]uint32{uint32(headerSize + len(part)), 1, c.token, c.sequence, request} {
			c.out = binary.LittleEndian.AppendUint32(c.out, n)
		}
		c.out = append(c.out, part...)
	}
	_, err := c.nc.Write(c.out)
	return err
}

// publish sends what changed since the last second.
func (c *conn) publish(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sub := range c.subs {
		sub.due = 0
		sub.quiet++
	}
	c.flush(now)
}

// flush answers publish requests as long as there is something to say. c.mu is held.
func (c *conn) flush(now time.Time) {
	for _, sub := range c.subs {
		for len(c.waiting) > 0 && (sub.due < len(sub.items) || sub.quiet > 5 && len(sub.items) == 0) {
			q := c.waiting[0]
			c.waiting = c.waiting[1:]
			part := sub.items[sub.due:min(len(sub.items), sub.due+sub.most)]
			sub.due += len(part)
			sub.quiet = 0
			c.notify(sub, q, part, now, sub.due < len(sub.items))
			if c.send(q.request, c.body) != nil {
				return // the reading side notices
			}
			c.s.published.Add(int64(len(part)))
		}
	}
}

// ticks is a DateTime.
func ticks(t time.Time) uint64 { return uint64(t.UnixNano()/100 + 116444736000000000) }

// notify encodes a PublishResponse with a DataChangeNotification into c.body (OPC 10000-4 section 5.13.5, 7.20).
func (c *conn) notify(sub *subscription, q publishRequest, items []monitored, now time.Time, more bool) {
	le := binary.LittleEndian
	b := append(c.body[:0], 1, 0, 0x3d, 0x03) // PublishResponse, i=829
	b = le.AppendUint64(b, ticks(now))
	b = le.AppendUint32(b, q.handle)
	b = append(b, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0) // good, no diagnostics, no strings, no header
	b = le.AppendUint32(b, sub.id)
	if len(items) > 0 {
		sub.sequence++
	}
	b = append(b, 0, 0, 0, 0) // none can be had again
	b = append(b, truth(more))
	b = le.AppendUint32(b, max(sub.sequence, 1))
	b = le.AppendUint64(b, ticks(now))
	if len(items) == 0 {
		c.body = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		return
	}
	b = append(b, 1, 0, 0, 0, 1, 0, 0x2b, 0x03, 1) // one, DataChangeNotification, i=811
	const each = 4 + 1 + 1 + 8 + 8
	b = le.AppendUint32(b, uint32(4+each*len(items)+4))
	b = le.AppendUint32(b, uint32(len(items)))
	at := ticks(now)
	for _, m := range items {
		b = le.AppendUint32(b, m.handle)
		b = append(b, ua.DataValueValue|ua.DataValueSourceTimestamp, byte(ua.TypeIDDouble))
		b = le.AppendUint64(b, math.Float64bits(c.s.value(m.node)))
		b = le.AppendUint64(b, at)
	}
	c.body = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // no diagnostics; no results; no diagnostics
}

func truth(b bool) byte {
	if b {
		return 1
	}
	return 0
}
