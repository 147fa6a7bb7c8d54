package devices

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// States of DeviceStatus.
const (
	stateOnline    = "online"
	stateOffline   = "offline"
	stateUnhealthy = "unhealthy" // it answers, and some properties cannot be read
	stateUnknown   = "unknown"   // nothing is known yet, or it cannot be polled at all
)

// Reasons of the Ready condition.
const (
	readyPolling     = "Polling"
	readyStarting    = "Starting"
	readyInvalid     = "InvalidDevice"
	readyUnreachable = "Unreachable"
	readyDriver      = "DriverFailed"
	readyProperties  = "PropertyErrors"
)

const (
	conditionReady = "Ready"
	conditionValid = "Valid"

	eventNormal  = "Normal"
	eventWarning = "Warning"
)

// state is the DeviceStatus state.
func (w *worker) state() string {
	switch {
	case w.plan.driver == nil || w.reach == reachUnknown:
		return stateUnknown
	case w.reach == reachOffline:
		return stateOffline
	case w.unreadable() > 0:
		return stateUnhealthy
	default:
		return stateOnline
	}
}

func (t *propertyTwin) unreadable() bool {
	return t.value.Quality() == device.Bad && t.value.Reason() != ""
}

// unreadable counts the properties that cannot be read.
func (w *worker) unreadable() (n int) {
	for i := range w.twins {
		if w.twins[i].unreadable() {
			n++
		}
	}
	return n
}

// Limits of what is told of properties that cannot be read.
const (
	maxReasons = 16 // different ones
	maxNamed   = 5  // properties with the same reason
)

// badProperties describes the properties that cannot be read, count of them: those with the same reason together, because a whole server that goes
// takes thousands along.
func (w *worker) badProperties(count int) string {
	type group struct {
		names []string
		count int
	}
	groups := make(map[string]*group)
	var reasons []string
	told := 0
	for i := range w.twins {
		if !w.twins[i].unreadable() {
			continue
		}
		reason := w.twins[i].value.Reason()
		g := groups[reason]
		if g == nil {
			if len(reasons) == maxReasons {
				continue
			}
			g = &group{}
			groups[reason], reasons = g, append(reasons, reason)
		}
		told++
		if g.count++; g.count <= maxNamed {
			g.names = append(g.names, strconv.Quote(w.plan.properties[i].name))
		}
	}
	messages := make([]string, 0, len(reasons))
	for _, reason := range reasons {
		g := groups[reason]
		switch who := strings.Join(g.names, ", "); {
		case g.count == 1:
			messages = append(messages, "property "+who+": "+reason)
		case g.count <= maxNamed:
			messages = append(messages, "properties "+who+": "+reason)
		default:
			messages = append(messages, fmt.Sprintf("%d properties (%s …): %s", g.count, who, reason))
		}
	}
	if told < count {
		messages = append(messages, fmt.Sprintf("and %d properties for other reasons", count-told))
	}
	if count > 1 {
		messages[0] = fmt.Sprintf("%d of %d properties cannot be read: %s", count, len(w.twins), messages[0])
	}
	return several(messages, "; ")
}

// onlyInvalid tells whether all properties that cannot be read have a visitor that is wrong.
func (w *worker) onlyInvalid() bool {
	for i := range w.plan.properties {
		if w.twins[i].unreadable() && w.plan.properties[i].has().pointErr == "" {
			return false
		}
	}
	return true
}

func (w *worker) validCondition() devicev1.Condition {
	c := devicev1.Condition{Type: conditionValid, Status: "True", Reason: reasonValid, Message: "the device fits its model and its driver"}
	if len(w.plan.problems) == 0 {
		return c
	}
	messages := make([]string, 0, len(w.plan.problems))
	for _, p := range w.plan.problems {
		messages = append(messages, p.message)
	}
	first := w.plan.problems[0]
	if i := slices.IndexFunc(w.plan.problems, func(p problem) bool { return p.fatal }); i >= 0 {
		first = w.plan.problems[i]
	}
	c.Status, c.Reason, c.Message = "False", first.reason, several(messages, "; ")
	return c
}

func (w *worker) readyCondition() devicev1.Condition {
	c := devicev1.Condition{Type: conditionReady, Status: "False"}
	bad := w.unreadable()
	switch {
	case w.plan.driver == nil:
		c.Reason, c.Message = readyInvalid, "nothing can be polled until the Valid condition is fixed"
	case w.hanging >= maxHanging:
		c.Reason, c.Message = readyDriver, w.crashed+fmt.Sprintf("; %d calls hang, so the session is not opened again until one returns: restart the agent", w.hanging)
	case w.crashed != "":
		c.Reason, c.Message = readyDriver, w.crashed+"; the session is restarted with back-off"
	case w.reach == reachOffline:
		c.Reason, c.Message = readyUnreachable, w.reachWhy
	case w.reach == reachUnknown:
		c.Status, c.Reason, c.Message = "Unknown", readyStarting, "waiting for the first reading"
	case bad > 0:
		c.Reason, c.Message = readyProperties, w.badProperties(bad)
	default:
		c.Status, c.Reason, c.Message = "True", readyPolling, "the device is polled"
	}
	c.Message = limit(c.Message)
	return c
}

// stateReason says why the device is in a state that is not online.
func (w *worker) stateReason() string {
	if w.status.state == stateOnline {
		return ""
	}
	return limit(w.status.ready.Message)
}

// transition takes over a condition and tells whether it changed; a change that an operator must know is an event.
func (w *worker) transition(have *devicev1.Condition, c devicev1.Condition, now time.Time) bool {
	old := *have
	c.ObservedGeneration = w.plan.generation
	c.LastTransitionTime = old.LastTransitionTime
	if old.Status != c.Status {
		c.LastTransitionTime = now.UTC().Format(time.RFC3339)
	}
	*have = c
	if old == c {
		return false
	}
	same := old.Status == c.Status && old.Reason == c.Reason && old.Message == c.Message
	switch {
	case same:
	case c.Reason == readyProperties && w.onlyInvalid():
		// the Valid condition has just said the same
	case c.Status == "False" && c.Reason != readyInvalid && c.Reason != readyDriver:
		w.log.Warn("device condition", "type", c.Type, "status", c.Status, "reason", c.Reason, "why", c.Message)
		w.event(eventWarning, c.Reason, c.Message)
	case c.Status == "True" && old.Status == "False":
		w.log.Info("device condition", "type", c.Type, "status", c.Status, "reason", c.Reason)
		w.event(eventNormal, c.Type, c.Message)
	}
	return true
}
