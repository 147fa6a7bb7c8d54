package agent

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/budget"
)

// TestShedding: what is shed comes in its order and goes in reverse, and the node says so.
func TestShedding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // of acts
		var acts, warned []string
		var use atomic.Int64
		use.Store(10)
		s := &shedding{limit: 100, used: use.Load, log: slog.New(slog.DiscardHandler), warn: func(m string) { warned = append(warned, m) }}
		s.act = map[budget.Level]func(bool){}
		for l := budget.History; l <= budget.Most; l++ {
			s.act[l] = func(on bool) {
				mu.Lock()
				defer mu.Unlock()
				acts = append(acts, map[bool]string{true: "+", false: "-"}[on]+l.String())
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.run(ctx) }()
		pass := func(d time.Duration) (list []string) {
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			list, acts = acts, nil
			return list
		}
		if c, acts := s.conditions()[0], pass(time.Minute); len(acts) != 0 || c.Type != "SkerryMemoryShed" || c.Status != "False" || s.noFollow() != "" || s.pullsHeld() != nil {
			t.Errorf("with enough memory: %v, %+v", acts, c)
		}
		use.Store(99)
		if got, want := pass(time.Minute), []string{"+HistoryDepth", "+LogStreams"}; !slices.Equal(got, want) {
			t.Errorf("shed %v within a minute, want %v", got, want)
		}
		if got, want := pass(2*time.Minute), []string{"+ImagePulls", "+PollRates"}; !slices.Equal(got, want) {
			t.Errorf("shed %v, want %v", got, want)
		}
		held := s.pullsHeld()
		if c := s.conditions()[0]; c.Status != "True" || c.Reason != "PollRates" || !strings.Contains(c.Message, "images are not pulled") || !strings.Contains(c.Message, "memory.budget") {
			t.Errorf("condition %+v", c)
		} else if s.noFollow() == "" || held == nil || len(warned) != 4 {
			t.Errorf("no follow %q, held %v, %d warnings", s.noFollow(), held, len(warned))
		}
		use.Store(10)
		if got, want := pass(5*time.Minute), []string{"-PollRates", "-ImagePulls", "-LogStreams", "-HistoryDepth"}; !slices.Equal(got, want) {
			t.Errorf("came back %v, want %v", got, want)
		}
		select {
		case <-held:
		default:
			t.Error("pulls are still held")
		}
		if c := s.conditions()[0]; c.Status != "False" || s.pullsHeld() != nil || s.noFollow() != "" {
			t.Errorf("condition %+v", c)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestNoLimit: without a limit nothing is shed, whatever is in use.
func TestNoLimit(t *testing.T) {
	s := &shedding{used: func() int64 { return 1 << 60 }}
	s.look(time.Now())
	if _, level := s.state(); level != budget.Everything {
		t.Errorf("level %v", level)
	}
}

func TestLiveMemory(t *testing.T) {
	before := liveMemory()
	kept := make([]byte, 64<<20)
	runtime.GC()
	with := liveMemory()
	runtime.KeepAlive(kept) // and from here on nobody does
	runtime.GC()
	if after := liveMemory(); before < 1<<20 || with < before+60<<20 || after > with-60<<20 {
		t.Errorf("%d bytes, with 64 MiB more %d, without them %d", before, with, after)
	}
}

// TestShortOfWhat: with a memory.limit below what use is judged by, both figures are named, and what would help.
func TestShortOfWhat(t *testing.T) {
	for _, c := range []struct {
		limits    budget.Limits
		has, lack []string
	}{
		{budget.ForHeap(24 << 20), []string{"86 % of 48 MiB", "memory.limit is 24 MiB", "memory.limit above 48 MiB"}, []string{"memory.budget"}},
		{budget.ForHeap(96 << 20), []string{"86 % of 96 MiB)", "memory.limit"}, []string{"judged"}},
		{budget.Of(66 << 20), []string{"86 % of 48 MiB)", "memory.budget"}, []string{"judged"}},
	} {
		a := &Agent{limits: c.limits, log: slog.New(slog.DiscardHandler)}
		a.newShedding()
		text := a.shed.text(budget.Pulls)
		for _, part := range c.has {
			if !strings.Contains(text, part) {
				t.Errorf("%q lacks %q", text, part)
			}
		}
		for _, part := range c.lack {
			if strings.Contains(text, part) {
				t.Errorf("%q has %q", text, part)
			}
		}
	}
}
