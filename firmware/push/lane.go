package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/history"
)

// Back-off of a target that does not take values.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

const (
	maxBatchBytes = 256 << 10
	oneRead       = 64 // values that are read at a time: a value may have 16 KiB
	// maxRefusals is how often a value that is refused alone, while nothing else was accepted, is tried before it is given up: a target that refuses all is
	// configured wrongly, and that takes somebody a while to mend.
	maxRefusals = 8
)

// source is where a lane gets its values: the history, or a queue in memory. It is used by one goroutine.
type source interface {
	next(ctx context.Context, limit int) ([]history.Entry, error)
	ack(seq uint64) error
	rewind()
	close()
}

// lane carries values from one source to one target, in order, from one goroutine.
type lane struct {
	endpoint endpoint
	from     string // history or memory
	src      source
	dial     func() (sender, error)
	route    func(namespace, device, property string) *options
	values   int
	interval time.Duration
	log      *slog.Logger

	conn     sender
	proven   bool // conn has taken something before
	batch    []item
	bytes    int
	last     uint64 // sequence of the newest that was read
	accepted bool   // something of this batch
	refusals int    // of the first of the batch, alone, in sequence

	mu sync.Mutex
	st laneState
}

// laneState is what Status tells of a lane.
type laneState struct {
	sent, skipped, refused, failures, missed uint64
	oldest                                   time.Time // of the values in hand
	inHand                                   int
	failing, lastSent                        time.Time
	err                                      string
	told                                     string // what was told last of values that were not taken
}

// run works until ctx ends.
func (l *lane) run(ctx context.Context) {
	defer func() {
		l.hangUp()
		l.src.close()
	}()
	for ctx.Err() == nil {
		err := l.collect(ctx)
		if err == nil && len(l.batch) > 0 {
			l.deliver(ctx)
			continue
		}
		if err != nil && ctx.Err() == nil {
			l.fail(fmt.Errorf("read values from the %s: %w", l.from, err))
			l.src.rewind()
			l.clear()
			pause(ctx, firstRetry)
		}
	}
}

func (l *lane) clear() {
	clear(l.batch)
	l.batch, l.bytes, l.accepted, l.refusals = l.batch[:0], 0, false, 0
	l.mu.Lock()
	l.st.inHand, l.st.oldest = 0, time.Time{}
	l.mu.Unlock()
}

// collect fills the batch: until it is full, or the interval has passed since its first value.
func (l *lane) collect(ctx context.Context) error {
	var due time.Time // zero: the batch is empty
	for len(l.batch) < l.values && l.bytes < maxBatchBytes {
		entries, err := l.nextUntil(ctx, due)
		if err != nil {
			if len(l.batch) > 0 && errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				return nil
			}
			return err
		}
		had := len(l.batch)
		for i := range entries {
			e := &entries[i]
			l.last = e.Seq
			if opt := l.route(e.Namespace, e.Device, e.Property); opt != nil {
				l.batch = append(l.batch, item{*e, opt})
				l.bytes += l.batch[len(l.batch)-1].size()
			}
			l.count(func(s *laneState) { s.missed += e.Missed })
		}
		switch {
		case len(l.batch) == 0: // all were for others
			if err := l.src.ack(l.last); err != nil {
				return err
			}
		case had == 0:
			due = time.Now().Add(l.interval)
			l.count(func(s *laneState) { s.oldest = l.batch[0].Value.Server })
		}
		l.count(func(s *laneState) { s.inHand = len(l.batch) })
	}
	return nil
}

func (l *lane) nextUntil(ctx context.Context, due time.Time) ([]history.Entry, error) {
	if !due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, due)
		defer cancel()
	}
	return l.src.next(ctx, min(oneRead, l.values-len(l.batch)))
}

// deliver sends the batch, in pieces if some of it is refused, until all of it is taken or given up, or ctx ends.
func (l *lane) deliver(ctx context.Context) {
	left, size, retry := l.batch, len(l.batch), firstRetry
	for len(left) > 0 {
		n := min(size, len(left))
		took, err := l.send(ctx, left[:n])
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			l.taken(n, took)
			l.accepted = l.accepted || took.refused+took.skipped < n
			left, size, retry = left[n:], 2*n, firstRetry
		case refused(err) && n > 1:
			size = n / 2
			continue
		case refused(err) && (l.accepted || l.refusals+1 >= maxRefusals):
			l.taken(1, tally{refused: 1, why: fmt.Sprintf("%s/%s %s: %v", left[0].Namespace, left[0].Device, left[0].Property, err)})
			left, size, retry = left[1:], 2, firstRetry
		default:
			if refused(err) {
				l.refusals++
			}
			l.fail(err)
			l.hangUp()
			pause(ctx, retry/2+rand.N(retry/2+1))
			retry = min(2*retry, lastRetry)
			continue
		}
		l.refusals = 0
		upto := l.last
		if len(left) > 0 {
			upto = left[0].Seq - 1
		}
		l.count(func(s *laneState) {
			if s.inHand = len(left); len(left) > 0 {
				s.oldest = left[0].Value.Server
			}
		})
		if err := l.src.ack(upto); err != nil {
			l.fail(fmt.Errorf("acknowledge values: %w", err))
		}
	}
	l.clear()
}

// send sends items over a connection that is made if there is none.
func (l *lane) send(ctx context.Context, items []item) (took tally, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v: report this with the agent's log", p)
		}
	}()
	proven := l.proven
	took, err = l.attempt(ctx, items)
	if err != nil && proven && !refused(err) && ctx.Err() == nil {
		// The server may have closed a connection that was idle: that is no failure.
		l.hangUp()
		took, err = l.attempt(ctx, items)
	}
	return took, err
}

func (l *lane) attempt(ctx context.Context, items []item) (tally, error) {
	if l.conn == nil {
		conn, err := l.dial()
		if err != nil {
			return tally{}, err
		}
		l.conn = conn
	}
	ctx, cancel := context.WithTimeout(ctx, l.endpoint.timeout)
	defer cancel()
	took, err := l.conn.send(ctx, items)
	l.proven = l.proven || err == nil
	return took, err
}

func (l *lane) hangUp() {
	if l.conn != nil {
		l.conn.close()
		l.conn, l.proven = nil, false
	}
}

func (l *lane) count(change func(*laneState)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.st)
}

// taken notes that the first n values of the batch are done with.
func (l *lane) taken(n int, t tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := t.skipped + t.refused
	l.st.sent += uint64(max(0, n-lost))
	l.st.skipped += uint64(t.skipped)
	l.st.refused += uint64(t.refused)
	if n > lost {
		l.st.lastSent = time.Now()
		if !l.st.failing.IsZero() {
			l.log.Info("the target takes values again", "after", time.Since(l.st.failing).Round(time.Second))
		}
		l.st.failing, l.st.err = time.Time{}, ""
	}
	if t.why != "" && t.why != l.st.told {
		l.log.Warn("values are not taken by the target, and given up", "values", lost, "why", t.why)
		l.st.told = t.why
	}
}

// fail notes an error after which the same is tried again.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.st.failures++
	if l.st.failing.IsZero() {
		l.st.failing = time.Now()
		l.log.Warn("the target does not take values; they wait, and it is tried again every 1 s to 1 min", "error", err)
	}
	l.st.err = err.Error()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
