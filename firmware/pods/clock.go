package pods

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// A gateway's clock may be set at any time, by any amount: one without a battery wakes up in 1970, or on the day its image was built, and
// learns the time when it reaches a server. So whatever is counted here (back-offs, runs, first probes, deadlines) is counted by the
// monotonic clock. The wall clock dates what people and the cluster read, and says how old a thing is that happened before this process was there.

const (
	// clockSlack is how far in the future a time may lie before the clock must have been set back: clocks are corrected by less all the time.
	clockSlack = time.Minute
	// createdSlack is by how much a gateway's clock may be behind the cluster's without anything being wrong (the link warns from there on).
	createdSlack = 5 * time.Minute
)

// believable reports whether a time that was noted about an object before says anything still. One from before the cluster made the object does not,
// once the clock is later than that: it was noted while the clock was wrong. Nor does one in the future: whoever counts from it (a Deployment's
// minReadySeconds) would wait until then. created may be nil.
func believable(t, created *corev1.Time, now time.Time) bool {
	floor := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	if created != nil && created.After(floor) {
		floor = created.Add(-createdSlack)
	}
	return t != nil && (now.Before(floor) || !t.Before(floor)) && t.Sub(now) < clockSlack
}

// moment returns by the monotonic clock when something happened that the runtime dates at. It is asked when the thing is first seen: later the
// clock may have been set. since, unless it is zero, is when it had not happened yet.
func (v *observer) moment(at, now, since time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	age := v.clocks.age(at, now)
	if !since.IsZero() {
		age = min(age, now.Sub(since))
	}
	return now.Add(-age)
}

// date notes by the monotonic clock when a container that was seen in a new state began and ended. began is what was noted before.
func (v *observer) date(c *containerState, began time.Time) {
	now := time.Now()
	c.began = began
	if began.IsZero() {
		c.began = v.moment(c.started, now, v.last)
	}
	if c.state != cri.ContainerExited || c.finished.IsZero() {
		return
	}
	c.ended = v.moment(c.finished, now, v.last)
	if began.IsZero() && !c.started.IsZero() { // nobody has seen it run
		c.began = c.ended.Add(-max(0, c.finished.Sub(c.started)))
	}
}

// clocksFile keeps the settings of the wall clock since the machine's boot.
const clocksFile = "clock"

// maxClocks bounds them: the oldest is forgotten first.
const maxClocks = 8

// clocks remembers how the wall clock was set since the machine's boot, across restarts of the agent: whatever is found when it starts may have been
// dated before the clock was set. Guarded by mu.
type clocks struct {
	path   string
	uptime func() (boot string, up time.Duration)

	mu       sync.Mutex
	Boot     string  `json:"boot"`
	Settings []int64 `json:"settings"` // wall clock less uptime, ns; the newest last
}

// openClocks reads what is kept. What cannot be read is as good as nothing: the wall clock is believed then.
func openClocks(dir string, uptime func() (string, time.Duration)) *clocks {
	c := &clocks{path: filepath.Join(dir, clocksFile), uptime: uptime}
	b, err := os.ReadFile(c.path)
	if err != nil || json.Unmarshal(b, c) != nil {
		c.Boot, c.Settings = "", nil
	}
	return c
}

// look notes whether the wall clock was set since the last look by more than the slack, and returns by how much. known is false at the first look of a
// boot. The error is that it cannot be kept.
func (c *clocks) look(now time.Time) (by time.Duration, known bool, err error) {
	boot, up := c.uptime()
	if boot == "" {
		return 0, false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Boot != boot {
		c.Boot, c.Settings = boot, nil
	}
	setting := now.UnixNano() - int64(up)
	if n := len(c.Settings); n > 0 {
		if by, known = time.Duration(setting-c.Settings[n-1]), true; by.Abs() < clockSlack {
			return 0, true, nil
		}
	}
	c.Settings = append(c.Settings, setting)
	c.Settings = c.Settings[max(0, len(c.Settings)-maxClocks):]
	b, err := json.Marshal(c)
	if err == nil {
		err = replaceFile(c.path, b, 0o600)
	}
	return by, known, err
}

// age returns how long ago something was that the wall clock dated at, under whichever setting: the least that is possible.
func (c *clocks) age(at, now time.Time) time.Duration {
	best := now.Sub(at)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.Settings); n > 0 {
		for _, s := range c.Settings[:n-1] {
			if age := now.Sub(at) - time.Duration(c.Settings[n-1]-s); age >= 0 && (best < 0 || age < best) {
				best = age
			}
		}
	}
	return max(0, best)
}

// lookAtClock lets all pods and the node look at their times again after the clock was set by more than the slack.
func (m *Manager) lookAtClock() {
	by, known, err := m.clocks.look(time.Now())
	if err != nil {
		m.o.Log.Warn("it is not kept how the gateway's clock was set: after a restart of the agent, pauses of containers may be too short", "error", err)
	}
	if !known || by == 0 {
		return
	}
	m.o.Log.Info("the gateway's clock was set: pods go on as they are, and times that lie in the future now are noted anew", "by", by.Round(time.Second))
	m.pokeNode()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.workers {
		w.poke()
	}
}

// activeFile keeps, of a pod with a deadline, the machine's boot and how long it was up when the pod became active, in ns.
const activeFile = "active"

// active returns how long the pod has been active, which is what its deadline counts.
func (w *worker) active(d *desiredPod) time.Duration {
	now := time.Now()
	if w.since.IsZero() {
		w.since = now.Add(-w.activeBefore(d, now))
	}
	return now.Sub(w.since)
}

// activeBefore returns how long the pod has been active when this process first asks. Within one boot of the machine the time since the boot tells;
// after a reboot only the wall clock knows how long it was.
func (w *worker) activeBefore(d *desiredPod, now time.Time) time.Duration {
	boot, up := w.m.o.Uptime()
	path := filepath.Join(w.m.podDir(w.uid), activeFile)
	if b, err := os.ReadFile(filepath.Clean(path)); err == nil && boot != "" {
		at, ours := strings.CutPrefix(string(b), boot+" ")
		if ns, err := strconv.ParseInt(at, 10, 64); ours && err == nil && time.Duration(ns) <= up {
			return up - time.Duration(ns)
		}
	}
	age := max(0, now.Sub(startOf(w.status, d.pod.Metadata.CreationTimestamp, now).Time))
	if boot != "" {
		if err := replaceFile(path, []byte(boot+" "+strconv.FormatInt(int64(up-age), 10)), 0o600); err != nil {
			w.log.Warn("it is not kept since when the pod is active: its deadline counts by the wall clock after a restart of the agent", "error", err)
		}
	}
	return age
}
