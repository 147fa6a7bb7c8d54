package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/mappers/device"
)

// script is a sender that answers as it is told.
type script struct {
	mu      sync.Mutex
	answer  func(items []item) (tally, error)
	got     []string // values that were taken
	batches []int    // sizes of all attempts
	opened  int
	closed  int
}

func (s *script) send(_ context.Context, items []item) (tally, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, len(items))
	t, err := tally{}, error(nil)
	if s.answer != nil {
		t, err = s.answer(items)
	}
	if err == nil {
		for i := range items {
			s.got = append(s.got, items[i].Value.Text())
		}
	}
	return t, err
}

func (s *script) close() { s.closed++ }

// ended is a queue that counts what was acknowledged.
type ended struct {
	*queue
	acked []uint64
}

func (e *ended) ack(seq uint64) error { e.acked = append(e.acked, seq); return nil }

func newLane(s *script, q source, values int) *lane {
	opt := &options{}
	return &lane{
		endpoint: endpoint{timeout: time.Second}, from: "memory", src: q, values: values, interval: time.Second, log: slog.New(slog.DiscardHandler),
		dial: func() (sender, error) { s.opened++; return s, nil },
		route: func(_, _, name string) *options {
			if name == "other" {
				return nil
			}
			return opt
		},
	}
}

// simulate runs a lane over n values for a while.
func simulate(t *testing.T, s *script, n, values int, d time.Duration) (*lane, *ended) {
	t.Helper()
	var q *ended
	var l *lane
	synctest.Test(t, func(t *testing.T) {
		q = &ended{queue: newQueue(10_000)}
		l = newLane(s, q, values)
		for i := range n {
			q.put(entry(i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		time.Sleep(d)
		synctest.Wait()
		cancel()
		<-done
	})
	if s.opened != s.closed {
		t.Errorf("%d connections were opened, %d closed", s.opened, s.closed)
	}
	return l, q
}

func entry(i int) history.Entry {
	return history.Entry{Seq: uint64(i + 1), Namespace: "ns", Device: "d", Property: "p", Value: device.Int(int64(i)).At(time.Unix(int64(i), 0))}
}

func inOrder(t *testing.T, got []string, n int, without ...int) {
	t.Helper()
	var want []string
	for i := range n {
		if !slices.Contains(without, i) {
			want = append(want, fmt.Sprint(i))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("taken were %v, want %v", got, want)
	}
}

func TestBatchesByCountAndTime(t *testing.T) {
	s := &script{}
	l, q := simulate(t, s, 25, 10, 5*time.Second)
	inOrder(t, s.got, 25)
	if !slices.Equal(s.batches, []int{10, 10, 5}) || !slices.Equal(q.acked, []uint64{10, 20, 25}) || l.st.sent != 25 {
		t.Errorf("batches %v, acknowledged %v, %+v", s.batches, q.acked, l.st)
	}
}

func TestAnOutageKeepsOrderAndLosesNothing(t *testing.T) {
	down := 5
	s := &script{answer: func([]item) (tally, error) {
		if down--; down >= 0 {
			return tally{}, errors.New("connection refused")
		}
		return tally{}, nil
	}}
	l, _ := simulate(t, s, 30, 10, 5*time.Minute)
	inOrder(t, s.got, 30)
	if l.st.failures != 5 || !l.st.failing.IsZero() || l.st.err != "" || l.st.inHand != 0 {
		t.Errorf("%+v", l.st)
	}
}

func TestWhileATargetIsDownItSaysSoAndBacksOff(t *testing.T) {
	s := &script{answer: func([]item) (tally, error) { return tally{}, errors.New("no route to host") }}
	l, _ := simulate(t, s, 3, 10, 10*time.Minute)
	if l.st.err != "no route to host" || l.st.failing.IsZero() || l.st.inHand != 3 {
		t.Errorf("%+v", l.st)
	}
	if n := len(s.batches); n < 10 || n > 30 { // 1, 2, 4 … 60 s, halved at most by jitter
		t.Errorf("%d attempts in ten minutes", n)
	}
}

// TestARefusedValueIsFound: the others arrive, in order, and each once.
func TestARefusedValueIsFound(t *testing.T) {
	s := &script{answer: func(items []item) (tally, error) {
		for i := range items {
			if items[i].Value.Text() == "13" {
				return tally{}, &refusal{errors.New("field type conflict")}
			}
		}
		return tally{}, nil
	}}
	l, q := simulate(t, s, 40, 40, time.Minute)
	inOrder(t, s.got, 40, 13)
	if l.st.refused != 1 || l.st.sent != 39 || !strings.Contains(l.st.told, "ns/d p: field type conflict") || q.acked[len(q.acked)-1] != 40 || len(s.batches) > 25 {
		t.Errorf("%+v, acknowledged %v, %d requests", l.st, q.acked, len(s.batches))
	}
}

// TestATargetThatRefusesAll is configured wrongly: nothing is given up for a while.
func TestATargetThatRefusesAll(t *testing.T) {
	s := &script{answer: func([]item) (tally, error) { return tally{}, &refusal{errors.New("bad request")} }}
	l, _ := simulate(t, s, 40, 40, 30*time.Second)
	if l.st.refused != 0 || l.st.failures == 0 {
		t.Errorf("after 30 s: %+v", l.st)
	}
	s = &script{answer: s.answer}
	if l, _ = simulate(t, s, 1, 40, 10*time.Minute); l.st.refused != 1 {
		t.Errorf("one bad value alone blocks the target for ever: %+v", l.st)
	}
}

func TestValuesForOthersArePassedOver(t *testing.T) {
	s := &script{}
	var q *ended
	synctest.Test(t, func(t *testing.T) {
		q = &ended{queue: newQueue(10)}
		l := newLane(s, q, 10)
		e := entry(0)
		e.Property = "other"
		q.put(e)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		l.run(ctx)
	})
	if len(s.batches) != 0 || !slices.Equal(q.acked, []uint64{1}) {
		t.Errorf("sent %v, acknowledged %v", s.batches, q.acked)
	}
}

// TestAnIdleConnectionThatWasClosed is opened again without a failure; a sender that panics is one.
func TestAnIdleConnectionThatWasClosed(t *testing.T) {
	s := &script{}
	s.answer = func([]item) (tally, error) {
		switch len(s.batches) {
		case 2:
			return tally{}, errors.New("EOF")
		case 4:
			panic("a bug")
		}
		return tally{}, nil
	}
	l, _ := simulate(t, s, 3, 1, time.Minute)
	inOrder(t, s.got, 3)
	if l.st.failures != 1 {
		t.Errorf("%+v", l.st)
	}
}

func TestQueueKeepsTheNewest(t *testing.T) {
	q := newQueue(10)
	for i := range 25 {
		q.put(entry(i))
	}
	got, err := q.next(t.Context(), 100)
	if err != nil || len(got) != 10 || got[0].Value.Text() != "15" || got[9].Value.Text() != "24" {
		t.Errorf("%v, %v", got, err)
	}
	if waiting, dropped := q.figures(); waiting != 0 || dropped != 15 || q.bytes != 0 {
		t.Errorf("%d wait, %d dropped, %d bytes", waiting, dropped, q.bytes)
	}
	long := entry(0)
	long.Value = device.String(strings.Repeat("x", 16<<10))
	q = newQueue(1000)
	for range 100 {
		q.put(long)
	}
	if q.bytes > maxQueueBytes || len(q.entries) < 10 {
		t.Errorf("%d values in %d bytes", len(q.entries), q.bytes)
	}
}
