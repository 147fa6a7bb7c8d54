package opcua

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry/skerry/mappers/device"
)

const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// steadyAfter is how long a connection has to hold to count as one: a server, or a proxy before it, that accepts and drops everybody must not be
	// asked as fast as it answers.
	steadyAfter = time.Second
	// maxStumbles is how often in a row a session may be lost after its server has been reached, before another one is made: there are servers that never answer
	// who goes on with a session.
	maxStumbles = 2
)

// endpoint is the connection to one server with one configuration, shared by the devices that have it. Its goroutine
// connects, keeps the connection alive and hands out what is published.
type endpoint struct {
	driver *Driver
	config config
	users  int // guarded by driver.mu

	cancel context.CancelFunc
	ended  chan struct{}
	retry  chan struct{} // has a token when the next try must not wait

	mu      sync.Mutex
	client  *client       // nil while there is no connection
	err     error         // why there is none; nil before the first try has failed
	changed chan struct{} // closed when client or err change

	known *ua.EndpointDescription // what the last connection used; owned by the goroutine
}

func startEndpoint(d *Driver, c config) *endpoint {
	ctx, cancel := context.WithCancel(context.Background())
	e := &endpoint{driver: d, config: c, cancel: cancel, ended: make(chan struct{}), retry: make(chan struct{}, 1), changed: make(chan struct{})}
	go func() {
		defer close(e.ended)
		e.run(ctx)
	}()
	return e
}

// stop ends the connection and waits for the goroutine.
func (e *endpoint) stop() {
	e.cancel()
	<-e.ended
}

// run connects again and again until ctx ends.
func (e *endpoint) run(ctx context.Context) {
	var backoff device.Backoff
	var held *client // without a channel; its session may still be alive at the server
	for ctx.Err() == nil {
		c, err := e.open(ctx, held)
		opened, steady := err == nil, false
		if opened {
			held = c
			if steady, err = e.use(ctx, c); steady {
				backoff.OK()
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if held != nil && (held.over(time.Now()) || errors.Is(err, errForgotten)) {
			if held = nil; !opened {
				continue
			}
		}
		e.known = nil // the server may have other endpoints or another certificate now
		err = device.Unreachable("%s: %s", e.config.String(), reason(err))
		if !backoff.Failing() {
			e.driver.log.Warn("OPC UA server cannot be reached", "reason", err.Error())
		}
		now := time.Now()
		backoff.Failed(now, err, firstRetry, lastRetry)
		e.set(nil, err)
		select {
		case <-time.After(backoff.RetryAt().Sub(now)):
		case <-e.retry:
		case <-ctx.Done():
			return
		}
	}
}

// use serves a connection until it ends, and tells whether it held and why it ended.
func (e *endpoint) use(ctx context.Context, c *client) (steady bool, _ error) {
	began := time.Now()
	e.set(c, nil)
	err := c.serve(ctx)
	e.set(nil, nil)
	c.close(err)
	if ctx.Err() == nil {
		e.driver.log.Info("OPC UA connection lost", "server", e.config.String(), "reason", reason(err))
	}
	c.parted = time.Now()
	if steady = c.parted.Sub(began) >= steadyAfter; steady {
		c.stumbles = 0
	} else {
		c.stumbles++
	}
	return steady, err
}

// over tells that there is nothing to go on with: the server has ended the session by now, or has been reached and lost too often.
func (c *client) over(now time.Time) bool {
	return now.Sub(c.parted) > min(c.lifetime, c.endpoint.config.sessionTimeout) || c.stumbles >= maxStumbles
}

// open goes on with a session, or makes one. Only if the server says that it has the session no more the error wraps errForgotten.
func (e *endpoint) open(ctx context.Context, held *client) (*client, error) {
	if held == nil {
		return e.connect(ctx)
	}
	return held, held.resume(ctx)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// set changes the state, and wakes who waits for that.
func (e *endpoint) set(c *client, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.client, e.err = c, err
	close(e.changed)
	e.changed = make(chan struct{})
}

// state returns the connection or why there is none, and what is closed when that changes.
func (e *endpoint) state() (*client, <-chan struct{}, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.client, e.changed, e.err
}

// ready returns the connection. While the first try is under way it waits, afterwards it says why there is none.
func (e *endpoint) ready(ctx context.Context) (*client, error) {
	for {
		c, changed, err := e.state()
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, device.Unreachable("%s: still connecting", e.config.String())
		}
	}
}

// lost is the error of a call whose connection ended.
func (e *endpoint) lost(err error) error {
	if err == nil {
		err = errors.New("the connection was lost")
	}
	return device.Unreachable("%s: %s", e.config.String(), reason(err))
}

// hurry makes an endpoint that waits for its next try do it now, and lets callers wait for that.
func (e *endpoint) hurry() {
	if c, _, _ := e.state(); c == nil {
		e.set(nil, nil)
		signal(e.retry)
	}
}
