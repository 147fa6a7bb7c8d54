package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua/channel"
	"github.com/skerry/skerry/mappers/opcua/uabin"
)

// client is one session with a server. It outlives its channel: a session that the server still has is activated on another one.
type client struct {
	endpoint *endpoint
	channel  atomic.Pointer[channel.Channel] // the last one on which the session was activated
	security channel.Security                // of the channel; owned by the endpoint's goroutine
	created  *ua.CreateSessionResponse       // with the server's newest nonce; owned by the endpoint's goroutine
	auth     *ua.NodeID
	lifetime time.Duration // of the session without a word
	parted   time.Time     // when its channel ended; owned by the endpoint's goroutine
	stumbles int           // how often in a row it was lost after the server had been reached; owned by the endpoint's goroutine

	namespaces []string
	limits     limits
	structures *structures
	suspect    chan struct{} // a request was not answered in time

	mu    sync.Mutex
	paths map[string]*ua.NodeID // where browse paths lead, by the points' places
	infos map[string]*nodeInfo  // what nodes that were written take, by their node ids
	types map[string]ua.TypeID  // of data types, by their node ids

	subs subscriptions
}

// limits are how many things a server takes in one request.
type limits struct {
	read, write, call, browse, translate, monitor int
}

func newClient(e *endpoint, ch *channel.Channel, sec channel.Security) *client {
	c := &client{
		endpoint: e, security: sec, suspect: make(chan struct{}, 1),
		paths: make(map[string]*ua.NodeID), infos: make(map[string]*nodeInfo), types: make(map[string]ua.TypeID),
	}
	c.channel.Store(ch)
	c.structures = newStructures(c)
	c.subs.init()
	return c
}

// maxTypes is how many data types one connection remembers.
const maxTypes = 1000

// call carries out one service request. A bad service result is an error that wraps its ua.StatusCode; a connection that
// failed is one that wraps device.ErrUnreachable.
func (c *client) call(ctx context.Context, req ua.Request) (any, error) {
	return c.callOn(ctx, c.ch(), req)
}

// ch is the channel in use, which may have ended.
func (c *client) ch() *channel.Channel { return c.channel.Load() }

// callOn is call on a channel.
func (c *client) callOn(ctx context.Context, ch *channel.Channel, req ua.Request) (any, error) {
	limited, cancel := context.WithTimeout(ctx, c.endpoint.config.timeout)
	defer cancel()
	got, err := ch.Call(limited, req, c.auth)
	switch {
	case err == nil:
		return got, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		select {
		case c.suspect <- struct{}{}:
		default:
		}
		return nil, device.Unreachable("%s: no answer within %v", c.endpoint.config.String(), c.endpoint.config.timeout)
	case lostSession(err):
		ch.Abort(err)
		return nil, &callError{c.endpoint.lost(err), err}
	case ch.Err() != nil:
		return nil, c.endpoint.lost(err)
	default:
		return nil, err
	}
}

// Ask is call for the packages that know structures and browsing.
func (c *client) Ask(ctx context.Context, req ua.Request) (any, error) { return c.call(ctx, req) }

// callError is an error that means that the device could not be asked, with the status code that says why.
type callError struct{ shown, cause error }

func (e *callError) Error() string   { return e.shown.Error() }
func (e *callError) Unwrap() []error { return []error{e.shown, e.cause} }

// learn reads the server's namespaces and limits.
func (c *client) learn(ctx context.Context) error {
	nodes := []uint32{
		id.Server_NamespaceArray,
		id.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite,
		id.Server_ServerCapabilities_OperationLimits_MaxNodesPerMethodCall, id.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
		id.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIDs, id.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
	}
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither}
	for _, n := range nodes {
		req.NodesToRead = append(req.NodesToRead, readValue(ua.NewNumericNodeID(0, n), ua.AttributeIDValue, ""))
	}
	got, err := c.call(ctx, req)
	if err != nil {
		return fmt.Errorf("read the server's namespaces: %w", err)
	}
	res, ok := got.(*uabin.ReadResponse)
	if !ok || len(res.Results) != len(nodes) {
		return errors.New("read the server's namespaces: the server answers with something else")
	}
	c.namespaces, ok = res.Results[0].Value.V.([]string)
	if !ok {
		return fmt.Errorf("read the server's namespaces: %s", statusText(res.Results[0].Status))
	}
	for i, to := range []*int{&c.limits.read, &c.limits.write, &c.limits.call, &c.limits.browse, &c.limits.translate, &c.limits.monitor} {
		*to = defaultLimit
		if n, ok := res.Results[i+1].Value.V.(uint32); ok && n > 0 && n < defaultLimit {
			*to = int(n)
		}
	}
	return nil
}

// defaultLimit is for servers that have none, or do not say.
const defaultLimit = 1000

// readValue is what a ReadRequest says of one node.
func readValue(node *ua.NodeID, attribute ua.AttributeID, index string) *ua.ReadValueID {
	return &ua.ReadValueID{NodeID: node, AttributeID: attribute, IndexRange: index, DataEncoding: &ua.QualifiedName{}}
}

// serve keeps the session alive and hands out what is published, until the channel ends or ctx does. It returns why.
func (c *client) serve(ctx context.Context) error {
	tick := time.NewTicker(min(c.endpoint.config.watchdog, max(c.lifetime/4, 100*time.Millisecond), time.Second))
	defer tick.Stop()
	w := watchdog{c: c}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ch().Done():
			return c.ch().Err()
		case r := <-w.replies():
			if r.Err != nil && !isStatus(r.Err) {
				return r.Err
			}
			w.answered()
		case <-c.suspect:
			if err := w.ask(ctx); err != nil {
				return err
			}
		case r := <-c.subs.replies:
			c.published(ctx, r)
		case <-c.subs.wake:
			c.keepPublishing(ctx)
		case now := <-tick.C:
			if err := w.check(ctx, now); err != nil {
				return err
			}
			c.keepPublishing(ctx)
			if renew := c.ch().RenewAt(); !renew.IsZero() && now.After(renew) {
				if err := c.renew(ctx); err != nil {
					return err
				}
			}
		}
	}
}

func (c *client) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.endpoint.config.timeout)
	defer cancel()
	if err := c.ch().Renew(ctx); err != nil {
		return fmt.Errorf("renew the channel's keys: %w", err)
	}
	return nil
}

func isStatus(err error) bool {
	var code ua.StatusCode
	return errors.As(err, &code) && !lostSession(err)
}

// watchdog asks a silent server whether it is alive: a connection may be black-holed without any error.
type watchdog struct {
	c       *client
	reply   chan channel.Reply
	request uint32
	since   time.Time
	asking  bool
}

func (w *watchdog) replies() <-chan channel.Reply { return w.reply }

func (w *watchdog) answered() { w.asking = false }

// check asks when the server has been silent for too long, and fails when it does not answer. The session needs a request now
// and then too, or the server closes it.
func (w *watchdog) check(ctx context.Context, now time.Time) error {
	if w.asking {
		if now.Sub(w.since) > w.c.endpoint.config.timeout {
			w.c.ch().Forget(w.request)
			return fmt.Errorf("the server was silent for %v", w.c.endpoint.config.timeout)
		}
		return nil
	}
	if now.Sub(w.c.ch().Heard()) < min(w.c.endpoint.config.watchdog, max(w.c.lifetime/3, time.Second)) {
		return nil
	}
	return w.ask(ctx)
}

// ask sends a request that every server answers at once.
func (w *watchdog) ask(ctx context.Context) error {
	if w.asking {
		return nil
	}
	if w.reply == nil {
		w.reply = make(chan channel.Reply, 1)
	}
	ctx, cancel := context.WithTimeout(ctx, w.c.endpoint.config.timeout)
	defer cancel()
	req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnNeither, NodesToRead: []*ua.ReadValueID{
		readValue(ua.NewNumericNodeID(0, id.Server_ServerStatus_State), ua.AttributeIDValue, ""),
	}}
	n, err := w.c.ch().Go(ctx, req, w.c.auth, w.reply)
	if err != nil {
		return err
	}
	w.request, w.since, w.asking = n, time.Now(), true
	return nil
}

// goodbye is how long a server may take to close a session.
const goodbye = 100 * time.Millisecond

// close ends the session and the channel. A channel that failed is closed without a word.
func (c *client) close(err error) {
	ch := c.ch()
	if ch.Err() == nil && c.auth != nil && (err == nil || errors.Is(err, context.Canceled)) {
		ctx, cancel := context.WithTimeout(context.Background(), goodbye)
		_, _ = ch.Call(ctx, &ua.CloseSessionRequest{DeleteSubscriptions: true}, c.auth)
		cancel()
	} else if err != nil {
		ch.Abort(err)
	}
	ch.Close()
}
