package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
)

// Store keeps records across restarts. Put is durable when it returns.
type Store interface {
	Scan(prefix string, fn func(key string, record []byte) error) error
	Put(ctx context.Context, key string, record []byte) error
	Delete(ctx context.Context, keys ...string) error
}

// Options configure a Keeper. Store, Dial and Connected are required.
type Options struct {
	Store Store
	// Dial opens a stream to the relay's service "cloud". It fails at once while there is no session.
	Dial func(ctx context.Context) (net.Conn, error)
	// Connected reports whether there is a session with a relay. It must not block.
	Connected func() bool
	// Wanted reports whether the pod with a UID may still be this node's: what is kept for others is removed by Open. nil: all are.
	Wanted func(uid string) bool
	Log    *slog.Logger  // default: slog.Default()
	First  time.Duration // how long Token waits for a token that there is none of; default 5 s
}

const (
	workers    = 4                // requests under way
	askLimit   = 15 * time.Second // for one
	lookAgain  = 2 * time.Second  // whether there is a session
	retryFirst = time.Second
	retryMost  = 5 * time.Minute
	renewMost  = 24 * time.Hour
)

// errOffline is why there is no token while there is no session.
var errOffline = errors.New("this gateway is not connected to a relay: it is asked for as soon as the link is back")

// errPending is why there is none while the relay is being asked.
var errPending = errors.New("the relay has not answered yet")

// request says which token.
type request struct {
	pod      wire.Key
	account  string
	audience string
	seconds  int64
}

// entry is one token. Guarded by Keeper.mu.
type entry struct {
	request
	token string
	due   time.Time // when to ask for the next one; zero: now
	ends  time.Time // when it expires, by this gateway's clock; zero: unknown
	told  bool      // that it has expired
	busy  bool      // being asked for
	gone  bool      // forgotten
	err   error     // why the last attempt failed
	retry time.Duration
	done  chan struct{} // closed at the end of the next attempt
}

// Keeper keeps the tokens. Make it with Open.
type Keeper struct {
	opt  Options
	log  *slog.Logger
	wake chan struct{}
	news chan struct{}

	mu      sync.Mutex
	entries map[request]*entry
	changed map[string]bool // UIDs of pods that have a new token, or one that has expired
}

// Open reads the tokens that are kept.
func Open(ctx context.Context, opt Options) (*Keeper, error) {
	if opt.Store == nil || opt.Dial == nil || opt.Connected == nil {
		return nil, errors.New("tokens: Options.Store, Dial and Connected are required")
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.First <= 0 {
		opt.First = 5 * time.Second
	}
	k := &Keeper{
		opt: opt, log: opt.Log, wake: make(chan struct{}, 1), news: make(chan struct{}, 1),
		entries: map[request]*entry{}, changed: map[string]bool{},
	}
	if err := k.load(ctx); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return k, nil
}

// Changed is told that pods have a new token, or one that has expired. Take says which.
func (k *Keeper) Changed() <-chan struct{} { return k.news }

// Take returns the UIDs of the pods whose tokens have changed since the last call.
func (k *Keeper) Take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var uids []string
	for uid := range k.changed {
		uids = append(uids, uid)
	}
	clear(k.changed)
	return uids
}

// Token returns the newest token that there is, and when it expires by this gateway's clock: that may be in the past, and is zero if the clock
// has gone back. If there is none it waits a short while for the relay's answer, and returns why there is none then.
func (k *Keeper) Token(ctx context.Context, pod wire.Key, account, audience string, seconds int64) (token string, expires time.Time, err error) {
	k.mu.Lock()
	r := request{pod, account, audience, seconds}
	e := k.entries[r]
	if e == nil {
		e = &entry{request: r}
		k.entries[r] = e
	}
	if e.token != "" {
		defer k.mu.Unlock()
		return e.token, e.ends, nil
	}
	if !k.opt.Connected() || e.err != nil && !e.busy && time.Now().Before(e.due) {
		defer k.mu.Unlock()
		return "", time.Time{}, e.why(k.opt.Connected())
	}
	if e.done == nil {
		e.done = make(chan struct{})
	}
	done := e.done
	k.mu.Unlock()
	signal(k.wake)
	limit := time.NewTimer(k.opt.First)
	defer limit.Stop()
	select {
	case <-ctx.Done():
		return "", time.Time{}, ctx.Err()
	case <-done:
	case <-limit.C:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.token == "" {
		return "", time.Time{}, e.why(k.opt.Connected())
	}
	return e.token, e.ends, nil
}

// why says why there is no token.
func (e *entry) why(connected bool) error {
	switch {
	case !connected:
		return errOffline
	case e.err == nil:
		return errPending
	}
	return e.err
}

// Forget removes the tokens of a pod that is gone. It waits for the store; what an end of ctx leaves there is removed by the next Open, which
// is told that nobody wants it.
func (k *Keeper) Forget(ctx context.Context, uid string) {
	k.mu.Lock()
	delete(k.changed, uid)
	var keys []string
	for r, e := range k.entries {
		if r.pod.UID() == uid {
			e.gone = true
			delete(k.entries, r)
			if e.token != "" {
				keys = append(keys, r.key())
			}
		}
	}
	k.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if err := k.opt.Store.Delete(ctx, keys...); err != nil {
		k.log.Warn("tokens of a pod that is gone stay in the store until the agent starts again", "pod_uid", uid, "error", err)
	}
}

// Run asks for tokens until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return k.opt.Dial(ctx) },
		MaxConnsPerHost:   workers,
		IdleConnTimeout:   5 * time.Second,
		ForceAttemptHTTP2: false,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next, batch := k.pick(time.Now())
		if len(batch) > 0 {
			var wg sync.WaitGroup
			for _, e := range batch {
				wg.Go(func() { k.ask(ctx, client, e) })
			}
			wg.Wait()
			continue
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-timer.C:
		}
	}
	return ctx.Err()
}

// pick takes the tokens to ask for now, the longest due first, or returns when to look again. It notes which have expired.
func (k *Keeper) pick(now time.Time) (next time.Duration, batch []*entry) {
	connected := k.opt.Connected()
	k.mu.Lock()
	defer k.mu.Unlock()
	next = time.Hour
	sooner := func(t time.Time) { next = min(next, max(t.Sub(now), time.Millisecond)) }
	for _, e := range k.entries {
		if e.token != "" && !e.told && !e.ends.IsZero() {
			if now.Before(e.ends) {
				sooner(e.ends)
			} else {
				e.told = true
				k.announce(e)
			}
		}
		switch {
		case now.Before(e.due):
			sooner(e.due)
		case !connected:
			next = min(next, lookAgain)
		default:
			batch = append(batch, e)
		}
	}
	slices.SortFunc(batch, func(a, b *entry) int { return a.due.Compare(b.due) })
	batch = batch[:min(len(batch), workers)]
	for _, e := range batch {
		e.busy = true
		if e.done == nil {
			e.done = make(chan struct{})
		}
	}
	return next, batch
}

// announce tells that a pod's token changed. k.mu is held.
func (k *Keeper) announce(e *entry) {
	k.changed[e.pod.UID()] = true
	signal(k.news)
}

// settle notes how an attempt ended, and reports whether its token is to be kept.
func (k *Keeper) settle(e *entry, t cloud.Token, err error, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e.busy = false
	close(e.done)
	e.done = nil
	if e.gone {
		return false
	}
	if err != nil {
		first := e.err == nil
		e.err = err
		e.retry = min(max(2*e.retry, retryFirst), retryMost)
		wait := e.retry - rand.N(e.retry/4)
		if r, ok := errors.AsType[*cloud.Refusal](err); ok {
			wait = max(wait, min(time.Duration(r.RetryAfter)*time.Second, retryMost))
		}
		e.due = now.Add(wait)
		if first {
			k.log.Warn("a service account token cannot be had; it is asked for again", "pod", e.pod, "service_account", e.account, "audience", e.audience, "error", err)
		}
		return false
	}
	life := lifetime(t.Lifetime)
	renew := min(life/5*4, renewMost)
	e.token, e.ends, e.told = t.Token, now.Add(life), false
	e.due = now.Add(renew - rand.N(renew/10+1))
	e.err, e.retry = nil, 0
	k.announce(e)
	return true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
