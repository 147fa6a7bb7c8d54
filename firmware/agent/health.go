package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/health/journal"
	"github.com/skerry/skerry/firmware/health/watchdog"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// How long the loops of critical parts may give no sign of life. They go round every 15 s at the least; the rest is for a slow flash, a busy processor, and for the
// supervisor, which waits up to 90 s before it starts a part again.
const (
	storeWithin   = 2 * time.Minute
	linkWithin    = 3 * time.Minute
	devicesWithin = 3 * time.Minute
	viewWithin    = 5 * time.Minute // thousands of devices may change at once
	podsWithin    = 5 * time.Minute // each question to a runtime that hangs takes 15 s
)

// beats are the signs of life of the agent's parts.
type beats struct {
	registry *health.Registry
	store    *health.Beat
	link     *health.Beat
	devices  *health.Beat // the scheduler
	view     *health.Beat // what follows changes of devices
	pods     *health.Beat
}

func newBeats() *beats {
	r := health.NewRegistry()
	return &beats{registry: r, store: r.Component("store", true, storeWithin), link: r.Component("link", true, linkWithin)}
}

// restarted counts a part that ended, and tells of it.
func (a *Agent) restarted(task string, err error) {
	a.metrics.restarted(task)
	a.beats.restarted(task, err)
}

// restarted tells of a part that ended and is started again.
func (b *beats) restarted(task string, err error) {
	for _, beat := range map[string][]*health.Beat{"store": {b.store}, "link": {b.link}, "devices": {b.devices, b.view}, "pods": {b.pods}}[task] {
		beat.Restarted(err)
	}
}

// liveness is what watches over the agent's parts, and remembers.
type liveness struct {
	systemd   *watchdog.Systemd // nil: it was not started by systemd
	keeper    *watchdog.Keeper
	journal   atomic.Pointer[journal.Journal] // nil until the store is open
	goingDown atomic.Bool                     // the machine is

	mu      sync.Mutex
	fault   string // names of what is not well
	message string
	since   time.Time
}

// beginHealth arms the watchdog, before anything that may hang. The function that it returns ends what it began, after everything else.
func (a *Agent) beginHealth(ctx context.Context) (ends func(orderly bool), err error) {
	h := &a.health
	h.since = a.started
	if h.systemd, err = watchdog.FromEnvironment(os.Getenv); err != nil {
		a.log.Warn("systemd is not told how the agent is", "error", err)
	}
	feeder, err := a.chooseWatchdog()
	if err != nil {
		return nil, err
	}
	if feeder != nil {
		a.log.Info("a watchdog looks after the agent", "watchdog", feeder.String(), "timeout", feeder.Timeout(), "mind", feeder.Caveats())
	}
	h.keeper = watchdog.New(watchdog.Options{
		Feeder: feeder, Wedged: a.beats.registry.Wedged, Forgive: a.beats.registry.Forgive, Record: a.wedged, Recovered: a.recovered,
		Patience: h.patience, KeepArmed: a.keepArmed, Log: a.log.With("part", "watchdog"),
	})
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- h.keeper.Run(keeping) }()
	return func(orderly bool) {
		if j := h.journal.Load(); j != nil && orderly {
			if err := j.Stopped(); err != nil {
				a.log.Warn("the next start will take this end for a crash", "error", err)
			}
		}
		stop()
		if err := <-done; err != nil {
			a.log.Error("the watchdog could not be given back", "error", err)
		}
	}, nil
}

// chooseWatchdog opens what the configuration and the machine have; nil: nothing.
func (a *Agent) chooseWatchdog() (watchdog.Feeder, error) {
	c, s := a.cfg.Watchdog, a.health.systemd
	switch c.Mode {
	case config.WatchdogOff:
		return nil, nil
	case config.WatchdogSystemd:
		if !s.Watches() {
			a.log.Error("watchdog.mode is systemd, and systemd does not watch this agent: set WatchdogSec= in its unit; nothing resets the gateway if the agent is wedged")
			return nil, nil
		}
		return s, nil
	case config.WatchdogAuto:
		if s.Watches() {
			return s, nil
		}
		if why := a.leaveDevice(); why != "" {
			a.log.Info("no watchdog looks after the agent: "+why, "mode", c.Mode)
			return nil, nil
		}
	}
	path, timeout := c.Device, c.Timeout
	if w := a.board.Watchdog; w != nil {
		path, timeout = cmp.Or(path, w.Device), cmp.Or(timeout, w.Timeout)
	}
	if path == "" {
		return nil, fmt.Errorf("watchdog.device: it is empty, and board %s has no watchdog either: name one, or set watchdog.mode to off", a.board.Name)
	}
	d, err := watchdog.OpenDevice(path, cmp.Or(timeout, 30*time.Second))
	if err != nil { // a gateway that polls its devices without one is better than none
		a.log.Error("no watchdog looks after the agent", "error", err)
		return nil, nil
	}
	return d, nil
}

// leaveDevice says why the hardware's watchdog is not for the agent to take by itself; "": it is.
func (a *Agent) leaveDevice() string {
	if _, err := os.Stat("/run/systemd/system"); err == nil { // sd_booted(3)
		return "systemd runs this machine, and its unit of skerryd has no WatchdogSec="
	}
	if a.board.Watchdog == nil && a.cfg.Watchdog.Device == "" {
		return "board " + a.board.Name + " has none"
	}
	if strings.HasPrefix(a.board.Name, "generic-") && a.cfg.Watchdog.Device == "" {
		return "nobody knows what this board has; watchdog.mode device takes what there is"
	}
	return ""
}

// keepArmed reports whether the watchdog goes on while nobody feeds it.
func (a *Agent) keepArmed() bool {
	switch a.cfg.Watchdog.Stop {
	case config.StopKeep:
		return true
	case config.StopDisarm:
		return false
	}
	return a.health.goingDown.Load()
}

// patience grows with the resets that have not helped: 0, 0, then 4, 8, 16, 32 minutes, an hour. What still works goes on working meanwhile.
func (h *liveness) patience() time.Duration {
	j := h.journal.Load()
	if j == nil {
		return 0
	}
	n := j.Resets()
	if n < 2 {
		return 0
	}
	return min(time.Hour, time.Minute<<min(n, 6))
}

// openJournal finds out how the agent and the machine have ended before, and tells. The store is open, so that no other agent works here.
func (a *Agent) openJournal() {
	j, news, err := journal.Open(journal.Options{Dir: JournalDir(a.cfg), Version: skerry.Version, Log: a.log.With("part", "journal")})
	if err == nil {
		err = j.CatchCrashes()
	}
	if err != nil {
		a.log.Warn("why the gateway is started and how the agent ends is not kept", "error", err)
	}
	a.health.journal.Store(j)
	for _, n := range news {
		kind, level := "Normal", slog.LevelInfo
		if n.Warning {
			kind, level = "Warning", slog.LevelWarn
		}
		a.log.Log(context.Background(), level, n.Text, "reason", n.Reason)
		a.nodeEvent(kind, eventReason(n), n.Text)
	}
}

// JournalDir is where the journal of boots and the crash files are.
func JournalDir(cfg config.Config) string { return filepath.Join(cfg.DataDir, "health") }

// eventReason is the reason of a node's event: as a kubelet's for a reboot.
func eventReason(n journal.News) string {
	if n.Boot {
		return "Rebooted"
	}
	switch n.Reason {
	case journal.EndCrashed:
		return "AgentCrashed"
	case journal.EndMemory:
		return "AgentKilledForMemory"
	case journal.EndWedged:
		return "AgentWedged"
	}
	return "AgentKilled"
}

// wedged records durably that parts are wedged. It is the watchdog's.
func (a *Agent) wedged(faults []health.Fault) {
	a.systemdStatus("wedged: " + faults[0].Reason)
	if a.health.journal.Load() != nil { // it comes after the events
		a.nodeEvent("Warning", "AgentWedged", "the agent is wedged, and will be started again by its watchdog: "+strings.Join(watchdog.Reasons(faults), "; "))
	}
	if j := a.health.journal.Load(); j != nil {
		j.Wedged(faults)
	}
}

func (a *Agent) recovered() {
	a.systemdStatus("")
	if j := a.health.journal.Load(); j != nil {
		j.Recovered()
	}
}

func (a *Agent) systemdStatus(text string) {
	if err := a.health.systemd.Status(text); err != nil {
		a.log.Debug("systemd was not told", "error", err)
	}
}

// ready tells systemd that the agent runs, and when it is about to stop.
func (a *Agent) ready(ctx context.Context) {
	if err := a.health.systemd.Ready(); err != nil {
		a.log.Warn("systemd does not know that the agent runs", "error", err)
	}
	context.AfterFunc(ctx, func() {
		if err := a.health.systemd.Stopping(); err != nil {
			a.log.Debug("systemd was not told", "error", err)
		}
	})
}

// annotationReset says why this gateway was started: the journal's word for it, and since when.
const annotationReset = "node.skerry.dev/last-reset"

func (h *liveness) annotations() map[string]string {
	out := map[string]string{}
	if j := h.journal.Load(); j != nil {
		if boots := j.Boots(); len(boots) > 0 {
			b := boots[len(boots)-1]
			out[annotationReset] = fmt.Sprintf("%s (boot %d): %s", b.Reason, b.Number, cmp.Or(b.Detail, "the first that the agent knows of"))
		}
	}
	return out
}

// conditionFault is the node's condition of an agent of which a part does not do its work.
const conditionFault = "SkerryAgentFault"

// conditions are those of the node that are not a kubelet's.
func (a *Agent) conditions() []corev1.Condition {
	now := time.Now()
	list := append(a.shed.conditions(), a.health.condition(a.beats.registry.States(), now))
	return append(append(list, a.disk.conditions()...), a.updates.condition(now)...)
}

// condition changes only with what is not well, so that it is not written again and again.
func (h *liveness) condition(states []health.State, now time.Time) corev1.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names, texts []string
	for _, s := range states {
		if s.Trouble != "" {
			names, texts = append(names, s.Name), append(texts, s.Trouble)
		}
	}
	if fault := strings.Join(names, ","); fault != h.fault {
		if (fault == "") != (h.fault == "") {
			h.since = now
		}
		h.fault, h.message = fault, strings.Join(texts, "; ")
	}
	c := corev1.Condition{
		Type: conditionFault, Status: "False", Reason: "AllAlive", Message: "all parts of the agent do their work",
		LastTransitionTime: corev1.NewTime(h.since), LastHeartbeatTime: corev1.NewTime(h.since),
	}
	if h.fault != "" {
		c.Status, c.Reason, c.Message = "True", "NotAlive", h.message
	}
	return c
}
