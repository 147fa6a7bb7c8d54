package mqtt

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// owners knows whose each session is. A client identifier is anybody's word: without this, who knows it takes over the session, with its messages. It is
// safe for concurrent use.
type owners struct {
	mu sync.Mutex
	of map[string]*owner // by client identifier
}

type owner struct {
	identity string
	open     int       // connections
	left     time.Time // monotonic: a gateway's clock may jump by decades
}

var errForeign = errors.New("the session of this client identifier belongs to another identity")

// claim gives a session to an identity, or says why not. leave is to be called once for each claim.
func (o *owners) claim(client, identity string, l Limits) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.of[client]
	if x != nil && x.identity != identity {
		return errForeign
	}
	own, open := 0, 0
	for _, other := range o.of {
		if other.identity == identity {
			own++
			open += other.open
		}
	}
	switch {
	case x == nil && len(o.of) >= l.Sessions:
		return fmt.Errorf("mqtt.limits.sessions (%d) are there", l.Sessions)
	case x == nil && own >= l.SessionsPerIdentity, open >= 2*l.SessionsPerIdentity:
		return fmt.Errorf("mqtt.limits.sessionsPerIdentity (%d) are there", l.SessionsPerIdentity)
	}
	if x == nil {
		x = &owner{identity: identity}
		o.of[client] = x
	}
	x.open++
	return nil
}

// restore takes over a session from before the start.
func (o *owners) restore(client, identity string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of[client] = &owner{identity: identity, left: time.Now()}
}

// leave takes a claim back; stays tells whether the session is still there.
func (o *owners) leave(client string, stays bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := o.of[client]; x != nil {
		x.open--
		x.left = time.Now()
		if x.open <= 0 && !stays {
			delete(o.of, client)
		}
	}
}

// identity is whose a session is; empty: nobody's.
func (o *owners) identity(client string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if x := o.of[client]; x != nil {
		return x.identity
	}
	return ""
}

// sweep forgets sessions: gone tells, of one that no connection has for so long, whether it has ended.
func (o *owners) sweep(gone func(client string, since time.Duration) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for client, x := range o.of {
		if x.open <= 0 && gone(client, time.Since(x.left)) {
			delete(o.of, client)
		}
	}
}
