package devices

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire"
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

// maxMessage bounds a condition's message: it is stored in etcd, and metav1.Condition allows 32,768 bytes.
const maxMessage = 1024

// statusState is what the worker remembers of its last report.
type statusState struct {
	changed    bool // something is worth a report
	force      bool // a new generation was taken over
	reported   bool
	state      string
	conditions map[string]devicev1.Condition
}

// publish reports the device if something worth it happened.
func (w *worker) publish(now time.Time) {
	if w.plan == nil {
		return
	}
	valid, ready := w.validCondition(), w.readyCondition()
	// The first report waits for the first reading: "starting" would only be noise.
	if ready.Reason == readyStarting && !w.status.reported && len(w.plan.problems) == 0 {
		return
	}
	state := w.state()
	conditionsChanged := w.transition(valid, now)
	conditionsChanged = w.transition(ready, now) || conditionsChanged
	if !w.status.changed && !w.status.force && !conditionsChanged && state == w.status.state {
		return
	}
	alarms := w.alarmConditions(now)
	report := devicev1.Report{
		ObservedGeneration: w.plan.generation,
		Conditions:         append([]devicev1.Condition{w.status.conditions[conditionReady], w.status.conditions[conditionValid]}, alarms...),
		DeviceStatus:       devicev1.DeviceStatus{Twins: w.reportTwins(now)},
	}
	if w.plan.reportState {
		report.DeviceStatus.State = state
		if !w.lastOnline.IsZero() {
			report.DeviceStatus.LastOnlineTime = w.lastOnline.UTC().Format(time.RFC3339)
		}
	}
	body, err := report.MarshalMsg(nil)
	if err != nil { // plain strings and numbers always encode
		w.log.Error("encoding the device's report failed; it is not sent", "err", err)
		return
	}
	w.status.changed, w.status.force, w.status.reported, w.status.state = false, false, true, state
	w.host.opt.Reports.Report(w.key, body)
}

// state is the DeviceStatus state.
func (w *worker) state() string {
	switch {
	case w.plan.driver == nil || w.reach == reachUnknown:
		return stateUnknown
	case w.reach == reachOffline:
		return stateOffline
	case len(w.badProperties()) > 0:
		return stateUnhealthy
	default:
		return stateOnline
	}
}

// badProperties describes the properties that cannot be read.
func (w *worker) badProperties() []string {
	var out []string
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if t := w.twins[prop.name]; t != nil && t.value.Quality == device.Bad && t.value.Reason != "" {
			out = append(out, fmt.Sprintf("property %q: %s", prop.name, t.value.Reason))
		}
	}
	return out
}

// onlyInvalid tells whether all properties that cannot be read have a visitor that is wrong.
func (w *worker) onlyInvalid() bool {
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		if t := w.twins[prop.name]; t != nil && t.value.Quality == device.Bad && t.value.Reason != "" && prop.pointErr == "" {
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
	c.Status, c.Reason, c.Message = "False", first.reason, limit(messages)
	return c
}

func (w *worker) readyCondition() devicev1.Condition {
	c := devicev1.Condition{Type: conditionReady, Status: "False"}
	bad := w.badProperties()
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
	case len(bad) > 0:
		c.Reason, c.Message = readyProperties, limit(bad)
	default:
		c.Status, c.Reason, c.Message = "True", readyPolling, "the device is polled"
	}
	c.Message = limit([]string{c.Message})
	return c
}

// transition takes over a condition and tells whether it changed; a change that an operator must know is an event.
func (w *worker) transition(c devicev1.Condition, now time.Time) bool {
	if w.status.conditions == nil {
		w.status.conditions = make(map[string]devicev1.Condition, 2)
	}
	old := w.status.conditions[c.Type]
	c.ObservedGeneration = w.plan.generation
	c.LastTransitionTime = old.LastTransitionTime
	if old.Status != c.Status {
		c.LastTransitionTime = now.UTC().Format(time.RFC3339)
	}
	w.status.conditions[c.Type] = c
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

// reportTwins lists what the cloud may see, in the order of the manifest.
func (w *worker) reportTwins(now time.Time) []devicev1.Twin {
	out := make([]devicev1.Twin, 0, len(w.plan.properties))
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		t := w.twins[prop.name]
		tw := devicev1.Twin{PropertyName: prop.name}
		if prop.reportToCloud && (t.value.Kind() != device.KindNone || t.value.Reason != "") {
			tw.Reported = reported(prop, t)
			t.lastSent = now
		}
		if t.Wanted() {
			tw.ObservedDesired = observed(t)
		}
		if tw.Reported != nil || tw.ObservedDesired != nil {
			out = append(out, tw)
		}
	}
	return out
}

func reported(prop *property, t *propertyTwin) *devicev1.TwinProperty {
	return &devicev1.TwinProperty{Value: t.text, Metadata: devicev1.TwinMetadata{
		Type: prop.typ.String(), Unit: prop.unit,
		Quality: t.value.Quality.String(), Reason: limit([]string{t.value.Reason}),
		Timestamp: millis(t.value.Server), SourceTimestamp: millis(t.value.Source),
	}}
}

func observed(t *propertyTwin) *devicev1.TwinProperty {
	d := t.Desired()
	outcome, reason := t.Outcome()
	m := devicev1.TwinMetadata{Generation: strconv.FormatInt(d.Generation, 10), Outcome: outcome.String(), Reason: limit([]string{reason})}
	if t.Last.Desired == d {
		m.Timestamp = millis(t.Last.At)
	}
	return &devicev1.TwinProperty{Value: d.Value, Metadata: m}
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// limit joins messages and bounds the result.
func limit(messages []string) string {
	s := strings.Join(messages, "; ")
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

func (w *worker) event(typ, reason, message string) {
	ref := wire.ObjectRef{APIVersion: "devices.kubeedge.io/v1beta1", Kind: "Device", Namespace: w.key.Namespace(), Name: w.key.Name()}
	if w.plan != nil {
		ref.UID = w.plan.uid
	}
	w.host.opt.Events.Event(ref, typ, reason, limit([]string{message}))
}

// snapshot is the worker's line in Status.
func (w *worker) snapshot() (DeviceState, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil {
		return DeviceState{}, false
	}
	ready := w.readyCondition()
	s := DeviceState{
		Namespace: w.key.Namespace(), Name: w.key.Name(), State: w.state(), Ready: ready.Status == "True",
		Reason: ready.Reason, Message: ready.Message, LastOnline: w.lastOnline, Alarms: w.activeAlarms(),
	}
	if valid := w.validCondition(); valid.Status != "True" {
		s.Reason, s.Message = valid.Reason, valid.Message
	}
	if w.plan.driver != nil {
		s.Protocol = w.plan.driver.Protocols()[0]
	}
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		t := w.twins[prop.name]
		p := PropertyState{Name: prop.name, Value: t.text, Unit: prop.unit, Quality: t.value.Quality, Reason: t.value.Reason, At: t.value.Server}
		if t.Wanted() {
			outcome, _ := t.Outcome()
			p.Desired, p.Outcome = t.Desired().Value, outcome.String()
		}
		s.Properties = append(s.Properties, p)
	}
	return s, true
}
