package devices

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/twin"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// reportGap is the shortest time between two reports of a device, for each 200 properties: changes come faster than anybody can look at,
// and a report tells of all of them.
const reportGap = 10 * time.Millisecond

// What is stored in etcd is bounded: metav1.Condition allows 32,768 bytes of a message, an event 1,024.
const (
	maxMessage = 2048
	maxEvent   = 1024
)

// statusState is what the worker remembers of its last report.
type statusState struct {
	changed  bool // something is worth a report
	force    bool // a new generation was taken over
	judge    bool // the conditions may be others: a quality changed, or the plan
	reported bool
	waiting  bool      // taskReport is armed
	next     time.Time // no report before
	seen     verdict   // what the conditions were made from
	state    string
	since    time.Time // when it got into state
	valid    devicev1.Condition
	ready    devicev1.Condition
	alarms   devicev1.Condition
}

// verdict is what the conditions depend on, beside the plan and the qualities.
type verdict struct {
	reach         reachability
	why, crashed  string
	stuck, online bool
}

// publish reports the device if something worth it happened.
func (w *worker) publish(now time.Time) {
	if w.plan == nil || w.status.waiting {
		return
	}
	seen := verdict{w.reach, w.reachWhy, w.crashed, w.hanging >= maxHanging, w.session != nil}
	if !w.status.changed && !w.status.force && !w.status.judge && seen == w.status.seen {
		return
	}
	if wait := w.status.next.Sub(now); wait > 0 && wait <= w.gap() {
		w.status.waiting = true
		w.host.sched.set(w, taskReport, w.status.next, 0)
		return
	}
	valid, ready := w.validCondition(), w.readyCondition()
	// The first report waits for the first reading: "starting" would only be noise.
	if ready.Reason == readyStarting && !w.status.reported && len(w.plan.problems) == 0 {
		return
	}
	w.status.seen, w.status.judge = seen, false
	state := w.state()
	conditionsChanged := w.transition(&w.status.valid, valid, now)
	conditionsChanged = w.transition(&w.status.ready, ready, now) || conditionsChanged
	if state != w.status.state || w.status.since.IsZero() {
		w.status.state, w.status.since, conditionsChanged = state, now, true
	}
	if !w.status.changed && !w.status.force && !conditionsChanged {
		return
	}
	w.send(now)
	w.status.changed, w.status.force, w.status.reported = false, false, true
	w.status.next = now.Add(w.gap())
}

func (w *worker) gap() time.Duration {
	return reportGap * time.Duration(1+len(w.plan.properties)/200)
}

// send hands the report to the relay's client.
func (w *worker) send(now time.Time) {
	report := devicev1.Report{
		ObservedGeneration: w.plan.generation,
		Conditions:         append([]devicev1.Condition{w.status.ready, w.status.valid}, w.alarmConditions(now)...),
		DeviceStatus:       devicev1.DeviceStatus{Twins: w.reportTwins(now)},
	}
	if w.plan.reportState {
		report.DeviceStatus.State = w.status.state
		report.DeviceStatus.Extensions = &devicev1.StateExtensions{Reason: w.stateReason(), Since: w.status.since.UTC().Format(time.RFC3339)}
		if w.reach == reachOnline && w.sub.active() {
			w.lastOnline = now // a subscription that stands is an answer
		}
		if !w.lastOnline.IsZero() {
			report.DeviceStatus.LastOnlineTime = w.lastOnline.UTC().Format(time.RFC3339)
		}
	}
	body, err := report.MarshalMsg(nil)
	if err != nil { // plain strings and numbers always encode
		w.log.Error("encoding the device's report failed; it is not sent", "err", err)
		return
	}
	w.host.opt.Reports.Report(w.key, bytes.Clone(body)) // it is kept for as long as the device lives, and the encoder takes twice the memory
}

// reportTwins lists what the cloud may see, in the order of the manifest.
func (w *worker) reportTwins(now time.Time) []devicev1.Twin {
	out := make([]devicev1.Twin, 0, len(w.plan.properties))
	for i := range w.plan.properties {
		prop := &w.plan.properties[i]
		t := &w.twins[i]
		tw := devicev1.Twin{PropertyName: prop.name}
		if prop.reportToCloud && (t.value.Kind() != device.KindNone || t.value.Reason() != "") {
			tw.Reported = reported(prop, t)
			t.lastSent = now.UnixNano()
		}
		if t.wanted() {
			tw.ObservedDesired = observed(t)
		}
		if tw.Reported != nil || tw.ObservedDesired != nil {
			out = append(out, tw)
		}
	}
	return out
}

func reported(prop *property, t *propertyTwin) *devicev1.TwinProperty {
	v := t.value.Value()
	return &devicev1.TwinProperty{Value: v.Text(), Metadata: devicev1.TwinMetadata{
		Type: prop.typ.String(), Unit: prop.unit,
		Quality: v.Quality.String(), Reason: limit(v.Reason),
		Timestamp: millis(v.Server), SourceTimestamp: millis(v.Source),
	}}
}

func observed(t *propertyTwin) *devicev1.TwinProperty {
	d := t.want.Desired()
	outcome, reason := t.want.Outcome()
	m := devicev1.TwinMetadata{Generation: strconv.FormatInt(d.Generation, 10), Outcome: outcome.String(), Reason: limit(reason)}
	if t.want.Last.Desired == d {
		m.Timestamp = millis(t.want.Last.At)
	}
	if d.Origin == twin.Edge {
		m.Origin = d.Origin.String()
	}
	return &devicev1.TwinProperty{Value: d.Value, Metadata: m}
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// limit bounds what is told of something.
func limit(message string) string { return cut(message, maxMessage) }

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// several joins as many messages as fit, and says how many do not.
func several(messages []string, separator string) string {
	var b strings.Builder
	for i, m := range messages {
		if i > 0 && b.Len()+len(separator)+len(m) > maxMessage-len("; … and 12345 more") {
			fmt.Fprintf(&b, "%s… and %d more", separator, len(messages)-i)
			break
		}
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(m)
	}
	return limit(b.String())
}

func (w *worker) event(typ, reason, message string) { w.eventOf("", typ, reason, message) }

// eventOf records an event about a part of the Device, as a field path.
func (w *worker) eventOf(part, typ, reason, message string) {
	ref := wire.ObjectRef{APIVersion: "devices.kubeedge.io/v1beta1", Kind: "Device", Namespace: w.key.Namespace(), Name: w.key.Name(), FieldPath: part}
	if w.plan != nil {
		ref.UID = w.plan.uid
	}
	w.host.opt.Events.Event(ref, typ, reason, cut(message, maxEvent))
}
