package agent

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/budget"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// conditionShed is the node's condition of an agent that does without something because its memory is short.
const conditionShed = "SkerryMemoryShed"

const shedLook = 5 * time.Second

// shedding looks at the agent's memory, and has its parts do without what a level names. Its zero value sheds nothing. It may be asked from
// any goroutine.
type shedding struct {
	limit int64 // what levels are shares of; 0: nothing is shed
	set   int64 // the limit that was set, if limit is what is taken for enough instead; 0: limit is
	used  func() int64
	// act begins and ends what a level does without. Levels that are asked for (noFollow, pullsHeld) have none.
	act  map[budget.Level]func(on bool)
	warn func(message string)
	log  *slog.Logger

	machine budget.Shedder // run's own

	mu    sync.Mutex
	level budget.Level
	use   float64
	since time.Time     // something has been shed, or nothing
	held  chan struct{} // closed when pulls may begin again; nil: they may
}

// newShedding connects the parts that there are.
func (a *Agent) newShedding() {
	s := &a.shed
	s.used, s.log, s.warn = liveMemory, a.log.With("part", "memory"), a.warnNode("MemoryShed")
	s.act, s.since = map[budget.Level]func(bool){}, a.started
	if a.limits.Budget > 0 {
		if s.limit = a.limits.Shed; a.limits.Heap < s.limit {
			s.set = a.limits.Heap
		}
	}
	if h := a.history; h != nil {
		s.act[budget.History] = func(on bool) {
			depth := a.limits.HistoryQueue
			if on {
				depth /= 4
			}
			h.Limit(depth)
		}
	}
	if d := a.devices; d != nil {
		s.act[budget.Polls] = func(on bool) {
			factor := 1
			if on {
				factor = 2
			}
			d.Slow(factor)
		}
	}
}

func (s *shedding) run(ctx context.Context) error {
	tick := time.NewTicker(shedLook)
	defer tick.Stop()
	for {
		s.look(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look takes the level that the memory in use asks for.
func (s *shedding) look(now time.Time) {
	if s.limit == 0 {
		return
	}
	use := float64(s.used()) / float64(s.limit)
	before, level := s.take(use, now)
	if level == before {
		return
	}
	changed, on := level, level > before
	if !on {
		changed = before
	}
	if act := s.act[changed]; act != nil {
		act(on)
	}
	if !on {
		s.log.Info("the agent's memory suffices for more again", "level", int(level), "without", level.Text(), "use", use)
		return
	}
	text := s.text(level)
	s.log.Warn(text, "level", int(level), "use", use)
	s.warn(text)
}

// take steps the machine and publishes what follows.
func (s *shedding) take(use float64, now time.Time) (before, level budget.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.use = s.level, use
	s.level = s.machine.Step(use, now)
	if shedding := s.level > budget.Everything; shedding != (before > budget.Everything) {
		s.since = now
	}
	switch hold := s.level >= budget.Pulls; {
	case hold && s.held == nil:
		s.held = make(chan struct{})
	case !hold && s.held != nil:
		close(s.held)
		s.held = nil
	}
	return before, s.level
}

// text is what the technician reads. A small memory.limit is not what use is judged by, and a larger one below that changes nothing.
func (s *shedding) text(level budget.Level) string {
	more, of := "memory.budget of the board, memory.limit", fmt.Sprintf("%d MiB", s.limit>>20)
	if s.set > 0 {
		more = fmt.Sprintf("memory.limit above %d MiB", s.limit>>20)
		of += fmt.Sprintf(", by which it is judged; memory.limit is %d MiB and only makes it collect garbage more often", s.set>>20)
	}
	return fmt.Sprintf("the agent's memory is short (above %.0f %% of %s): %s. Give it more (%s), or less to do: fewer points, longer cycles, fewer pods",
		level.From()*100, of, level.Text(), more)
}

// state returns the share of the limit that is in use, and the level.
func (s *shedding) state() (use float64, level budget.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.use, s.level
}

// conditions is what the node says of it. It changes with the level only, so that it is not written again and again.
func (s *shedding) conditions() []corev1.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := corev1.Condition{Type: conditionShed, Status: "False", Reason: "EnoughMemory", Message: "the agent has enough memory for all that it does"}
	if s.level > budget.Everything {
		c.Status, c.Reason = "True", s.level.String()
		c.Message = s.text(s.level)
	}
	c.LastTransitionTime, c.LastHeartbeatTime = corev1.NewTime(s.since), corev1.NewTime(s.since)
	return []corev1.Condition{c}
}

// noFollow is kubeletapi.Options.NoFollow.
func (s *shedding) noFollow() string {
	if _, level := s.state(); level >= budget.Logs {
		return "the agent's memory is short (condition " + conditionShed + " of the node)"
	}
	return ""
}

// pullsHeld is pods.Options.PullsHeld.
func (s *shedding) pullsHeld() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		return nil
	}
	return s.held
}

// liveMemory returns the memory that a garbage collection cannot give back: what lived after the last one, stacks, and what the runtime needs
// for itself. What is free or garbage below GOMEMLIMIT is no sign of shortage: the runtime uses the room that it has.
func liveMemory() int64 {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) int64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0
		}
		return int64(samples[i].Value.Uint64()) //nolint:gosec // bytes of memory
	}
	return value(0) + value(1) - value(2) - value(3) - value(4) - value(5)
}
