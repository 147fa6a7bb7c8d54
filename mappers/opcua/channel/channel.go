package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"

	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// Options say where a server is and how to speak to it.
type Options struct {
	Address  string // host:port
	URL      string // of the endpoint, for the server
	Security Security
	// Lifetime is how long keys are used; the server may revise it. Default: one hour.
	Lifetime time.Duration
	// Dial connects; nil for the net package's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Reply is the outcome of a request.
type Reply struct {
	Request  uint32 // what Go returned
	Response any
	Err      error // a bad service result is a ua.StatusCode
}

// Channel is one secure channel. All methods may be called concurrently.
type Channel struct {
	conn net.Conn
	sec  Security
	asym *uapolicy.EncryptionAlgorithm
	peer peerLimits
	life time.Duration

	sending  chan struct{} // holds a token while nobody writes
	sequence uint32        // the last one sent; owned by who writes

	mu       sync.Mutex
	request  uint32
	pending  map[uint32]*waiting
	partial  int // bytes of unfinished responses
	given    int // requests that were given up, and may still be answered
	id       uint32
	current  *token
	tokens   []*token // the newest last
	nonce    []byte   // of the opening that is under way
	renewAt  time.Time
	err      error
	done     chan struct{}
	finished chan struct{} // the reader has ended
	heard    atomic.Int64
}

// waiting is a request without a reply yet.
type waiting struct {
	to   chan<- Reply
	body []byte // chunks so far
	n    int
}

// token is one set of keys.
type token struct {
	id   uint32
	algo *uapolicy.EncryptionAlgorithm
}

// Dial connects and opens a channel. ctx bounds all of it.
func Dial(ctx context.Context, o Options) (*Channel, error) {
	asym, err := o.Security.asymmetric()
	if err != nil {
		return nil, err
	}
	if o.Lifetime <= 0 {
		o.Lifetime = time.Hour
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	conn, err := o.Dial(ctx, "tcp", o.Address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c := &Channel{conn: conn, sec: o.Security, asym: asym, life: o.Lifetime, sending: make(chan struct{}, 1), pending: make(map[uint32]*waiting), done: make(chan struct{}), finished: make(chan struct{})}
	c.sending <- struct{}{}
	buf := make([]byte, bufferSize)
	if err := c.greet(o.URL, buf); err != nil {
		stop()
		_ = conn.Close()
		return nil, contextError(ctx, err)
	}
	go c.receive(buf)
	if err := c.open(ctx, ua.SecurityTokenRequestTypeIssue); err != nil {
		stop()
		c.abort(err)
		return nil, contextError(ctx, err)
	}
	if !stop() {
		c.abort(ctx.Err())
		return nil, ctx.Err()
	}
	return c, nil
}

// contextError prefers the reason for which a deadline was set.
func contextError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *Channel) greet(url string, buf []byte) error {
	if _, err := c.conn.Write(hello(url)); err != nil {
		return err
	}
	f, err := readFrame(c.conn, buf)
	if err != nil {
		return fmt.Errorf("no acknowledge: %w", err)
	}
	c.peer, err = acknowledge(f)
	return err
}

// Done is closed when the channel has ended; Err says why.
func (c *Channel) Done() <-chan struct{} { return c.done }

// Err says why the channel has ended, nil while it has not.
func (c *Channel) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Heard is when the server last sent anything that passed the security checks.
func (c *Channel) Heard() time.Time { return time.Unix(0, c.heard.Load()) }

// RenewAt is when the keys should be renewed: after three quarters of their life (Part 4, section 5.5.2.1).
func (c *Channel) RenewAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.renewAt
}

// Renew gets new keys.
func (c *Channel) Renew(ctx context.Context) error {
	return c.open(ctx, ua.SecurityTokenRequestTypeRenew)
}

// Close tells the server, ends the channel and waits for its goroutine. It takes 200 ms at most, and may be called more than once.
func (c *Channel) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if c.Err() == nil {
		_ = c.write(ctx, "CLO", &ua.CloseSecureChannelRequest{}, nil, nil)
	}
	c.abort(errClosed)
}

var errClosed = errors.New("channel closed")

// abort ends the channel without a word.
func (c *Channel) abort(err error) {
	c.fail(err)
	<-c.finished
}

// fail ends the channel; the first reason counts.
func (c *Channel) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the server closed the connection")
	}
	c.err = err
	_ = c.conn.Close()
	close(c.done)
	for id, w := range c.pending {
		deliver(w.to, Reply{Request: id, Err: err})
	}
	clear(c.pending)
}

// deliver never blocks: whoever waits has room for each of his replies.
func deliver(to chan<- Reply, r Reply) {
	select {
	case to <- r:
	default:
	}
}

// Call sends a request and waits for its response. A bad service result is an error that wraps its ua.StatusCode.
func (c *Channel) Call(ctx context.Context, req ua.Request, auth *ua.NodeID) (any, error) {
	to := make(chan Reply, 1)
	n, err := c.Go(ctx, req, auth, to)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-to:
		return r.Response, r.Err
	case <-ctx.Done():
		c.Forget(n)
		return nil, ctx.Err()
	}
}

// Go sends a request; its reply goes to a channel that must have room for it. ctx bounds the sending, and is the time-out
// that the server is told.
func (c *Channel) Go(ctx context.Context, req ua.Request, auth *ua.NodeID, to chan<- Reply) (uint32, error) {
	var n uint32
	err := c.write(ctx, "MSG", req, auth, func(request uint32) {
		n = request
		c.pending[n] = &waiting{to: to}
	})
	return n, err
}

// Forget gives a request up: its reply is not delivered any more.
func (c *Channel) Forget(request uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.pending[request]; ok {
		delete(c.pending, request)
		c.partial -= len(w.body)
		c.given++
	}
}

// open gets a token.
func (c *Channel) open(ctx context.Context, kind ua.SecurityTokenRequestType) error {
	nonce, err := c.asym.MakeNonce()
	if err != nil {
		return err
	}
	if len(nonce) == 0 {
		nonce = nil
	}
	to := make(chan Reply, 1)
	var n uint32
	req := &ua.OpenSecureChannelRequest{RequestType: kind, SecurityMode: c.sec.Mode, ClientNonce: nonce, RequestedLifetime: uint32(c.life.Milliseconds())}
	err = c.write(ctx, "OPN", req, nil, func(request uint32) {
		n, c.nonce = request, nonce
		c.pending[n] = &waiting{to: to}
	})
	if err != nil {
		return err
	}
	select {
	case r := <-to:
		return r.Err
	case <-ctx.Done():
		c.Forget(n)
		return ctx.Err()
	}
}

// opened takes the keys of an answered opening. The lock is held.
func (c *Channel) opened(m *ua.OpenSecureChannelResponse) error {
	if m.SecurityToken == nil {
		return errors.New("the server opened a channel without a token")
	}
	if c.sec.secured() && len(m.ServerNonce) != c.asym.NonceLength() {
		return fmt.Errorf("the server's nonce has %d bytes and needs %d", len(m.ServerNonce), c.asym.NonceLength())
	}
	algo, err := uapolicy.Symmetric(c.sec.Policy, c.nonce, m.ServerNonce)
	if err != nil {
		return err
	}
	c.id, c.current = m.SecurityToken.ChannelID, &token{id: m.SecurityToken.TokenID, algo: algo}
	c.tokens = append(c.tokens, c.current)
	if len(c.tokens) > 2 {
		c.tokens = c.tokens[len(c.tokens)-2:]
	}
	life := time.Duration(m.SecurityToken.RevisedLifetime) * time.Millisecond
	if life <= 0 {
		life = c.life
	}
	c.renewAt = time.Now().Add(max(life, time.Second) * 3 / 4)
	return nil
}

// write sends one request in as many chunks as it takes. register is called under the lock with the request's number.
func (c *Channel) write(ctx context.Context, kind string, req ua.Request, auth *ua.NodeID, register func(uint32)) error {
	select {
	case <-c.sending:
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { c.sending <- struct{}{} }()
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	if c.request++; c.request == 0 {
		c.request = 1
	}
	n, current, id := c.request, c.current, c.id
	c.mu.Unlock()
	body, err := c.encode(ctx, req, auth, n)
	if err != nil {
		return err
	}
	chunks, err := c.chunks(kind, body, n, id, current)
	if err != nil {
		return err
	}
	if register != nil {
		c.mu.Lock()
		register(n)
		c.mu.Unlock()
	}
	// A chunk that is sent by half cannot be taken back: an interrupted write ends the channel.
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetWriteDeadline(deadline)
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-interrupted // or it would interrupt what is sent next, and end the channel
		}
	}()
	for _, chunk := range chunks {
		if _, err := c.conn.Write(chunk); err != nil {
			c.Forget(n)
			c.fail(fmt.Errorf("send: %w", err))
			return contextError(ctx, err)
		}
	}
	return nil
}

func (c *Channel) encode(ctx context.Context, req ua.Request, auth *ua.NodeID, n uint32) ([]byte, error) {
	h := &ua.RequestHeader{AuthenticationToken: auth, Timestamp: time.Now(), RequestHandle: n, AdditionalHeader: ua.NewExtensionObject(nil)}
	if auth == nil {
		h.AuthenticationToken = ua.NewTwoByteNodeID(0)
	}
	// A PublishRequest waits for as long as nothing changes, so it has no time-out.
	if d, ok := ctx.Deadline(); ok && !isPublish(req) {
		h.TimeoutHint = uint32(min(max(time.Until(d).Milliseconds(), 1), math.MaxUint32))
	}
	req.SetHeader(h)
	body, err := uabin.EncodeRequest(req)
	if err != nil {
		return nil, err
	}
	if c.peer.message > 0 && len(body) > c.peer.message {
		return nil, fmt.Errorf("the request has %d bytes and the server takes %d: %w", len(body), c.peer.message, ua.StatusBadRequestTooLarge)
	}
	return body, nil
}

// nextSequence numbers a chunk (Part 6, section 6.7.2.4).
func (c *Channel) nextSequence() uint32 {
	if c.sequence >= math.MaxUint32-1024 {
		c.sequence = 0
	}
	c.sequence++
	return c.sequence
}

// Abort ends the channel without a word and without waiting. The first reason counts.
func (c *Channel) Abort(err error) { c.fail(err) }

func isPublish(req ua.Request) bool {
	_, ok := req.(*ua.PublishRequest)
	return ok
}
