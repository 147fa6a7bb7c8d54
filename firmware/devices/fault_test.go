package devices

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/device/devicetest"
)

func TestBadManifests(t *testing.T) {
	with := func(prop string) string { return deviceDoc("1", tempProp, prop) }
	for name, c := range map[string]struct {
		doc, reason, message string
		polls                bool // the good property goes on
	}{
		"missing model": {strings.Replace(with(onProp), `"name": "m"`, `"name": "nope"`, 1), "ModelNotFound",
			`spec.deviceModelRef.name: "nope": there is no such DeviceModel in namespace "ns": create it, or correct the name`, false},
		"unknown protocol": {strings.Replace(with(onProp), `"protocolName": "fake"`, `"protocolName": "canbus"`, 1), "UnknownProtocol",
			`spec.protocol.protocolName: "canbus": this agent has no driver for it; allowed: fake`, false},
		"bad configData": {strings.Replace(with(onProp), `"id": "1"`, `"idd": "1"`, 1), "InvalidConfig",
			`spec.protocol.configData.idd: unknown field; allowed: id`, false},
		"unknown property": {with(`{"name": "x", "visitors": {"configData": {"cell": "x"}}}`), "UnknownProperty",
			`spec.properties[x]: DeviceModel "m" has no such property; allowed: on, set, temp`, true},
		"property twice": {with(`{"name": "temp", "visitors": {"configData": {"cell": "x"}}}`), "DuplicateProperty",
			`spec.properties[temp]: the property is listed twice`, true},
		"bad visitor": {with(`{"name": "on", "visitors": {"configData": {"cel": "x"}}}`), "InvalidVisitor",
			`spec.properties[on].visitors.configData.cel: unknown field`, true},
		"other protocol in the visitor": {with(`{"name": "on", "visitors": {"protocolName": "opcua", "configData": {"cell": "o"}}}`), "InvalidVisitor",
			`spec.properties[on].visitors.protocolName: "opcua": differs from the device's protocol`, true},
		"desired not of the type": {with(setProp("hot")), "InvalidDesired", `spec.properties[set].desired.value: "hot" is not an INT`, true},
		"desired above maximum":   {with(setProp("101")), "InvalidDesired", `"101" is above the DeviceModel's maximum 100`, true},
		"desired below minimum":   {with(setProp("-1")), "InvalidDesired", `"-1" is below the DeviceModel's minimum 0`, true},
		"desired that the registers cannot hold": {with(strings.Replace(setProp("77"), `"cell": "s"`, `"cell": "s", "max": 50`, 1)), "InvalidDesired",
			`spec.properties[set].desired.value: 77 does not fit the cell`, true},
		"desired of a read-only property": {deviceDoc("1", strings.Replace(tempProp, `"visitors"`, `"desired": {"value": "1"}, "visitors"`, 1)), "InvalidDesired",
			`the DeviceModel says that the property is ReadOnly`, true},
		"cycle too short": {deviceDoc("1", strings.Replace(tempProp, `100`, `1`, 1)), "InvalidCycle",
			`spec.properties[temp].collectCycle: 1: is out of range, 1s is used; allowed: 0 (default), or 10 to`, true},
		"pushMethod": {with(strings.Replace(onProp, `"visitors"`, `"pushMethod": {"mqtt": {"qos": 1}}, "visitors"`, 1)), "NotSupported",
			`spec.properties[on].pushMethod: this agent pushes nothing`, true},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.apply(wire.KindDevice, "d", c.doc)
				w.start()
				defer w.stop()
				got := w.condition("Valid")
				if got.Status != "False" || got.Reason != c.reason || !strings.Contains(got.Message, c.message) || got.ObservedGeneration != 1 {
					t.Errorf("condition %+v", got)
				}
				if c.polls {
					if w.twin("temp").Reported.Value != "21.5" {
						t.Errorf("the good property is not polled: %+v", w.last())
					}
				} else if w.condition("Ready").Reason != "InvalidDevice" || w.last().DeviceStatus.State != "unknown" {
					t.Errorf("ready %+v", w.condition("Ready"))
				}
				if len(w.fake.Writes("1")) != 0 {
					t.Errorf("writes %v", w.fake.Writes("1"))
				}
				warnings := 0
				for _, e := range w.events {
					if strings.HasPrefix(e, "Warning ") && !strings.Contains(e, " DesiredValue") {
						warnings++
					}
				}
				if warnings != 1 {
					t.Errorf("%d warnings for one mistake: %q", warnings, w.events)
				}
				n := w.count()
				w.settle(30 * time.Second)
				if w.count() > n {
					t.Errorf("%d reports while nothing changes", w.count()-n)
				}
				// The cause is gone: no restart needed.
				w.apply(wire.KindDevice, "d", deviceDoc("2", tempProp, setProp("50")))
				w.settle(time.Second)
				if w.condition("Valid").Status != "True" || w.condition("Ready").Status != "True" || w.twin("set").Reported.Value != "50" {
					t.Errorf("after the fix: %+v", w.last())
				}
			})
		})
	}
}

func TestModelArrivesLater(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDeviceModel, "m", "")
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, setProp("200")))
		w.start()
		defer w.stop()
		if w.condition("Valid").Reason != "ModelNotFound" {
			t.Errorf("condition %+v", w.condition("Valid"))
		}
		w.apply(wire.KindDeviceModel, "m", modelDoc)
		w.settle(time.Second)
		if w.twin("temp").Reported.Value != "21.5" || w.twin("set").ObservedDesired.Metadata.Outcome != "refused" {
			t.Errorf("after the model came: %+v", w.last())
		}
		// A wider range makes the refused value writable.
		w.apply(wire.KindDeviceModel, "m", strings.Replace(modelDoc, `"maximum": "100"`, `"maximum": "300"`, 1))
		w.settle(time.Second)
		if got := w.fake.Writes("1"); len(got) != 1 || got[0] != "s=200" || w.twin("set").ObservedDesired.Metadata.Outcome != "verified" {
			t.Errorf("writes %v, %+v", got, w.twin("set").ObservedDesired)
		}
	})
}

func TestOfflineAndBack(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		defer w.stop()
		seen := w.last().DeviceStatus.LastOnlineTime
		w.settle(time.Minute)
		w.fake.SetFault(devicetest.Off)
		w.settle(time.Second)
		tw := w.twin("temp")
		if w.last().DeviceStatus.State != "offline" || w.condition("Ready").Reason != "Unreachable" || tw.Reported.Value != "21.5" ||
			tw.Reported.Metadata.Quality != "bad" || tw.Reported.Metadata.Reason == "" || w.last().DeviceStatus.LastOnlineTime == seen {
			t.Errorf("offline: %+v %+v", w.last(), tw.Reported)
		}
		n := w.count()
		w.settle(10 * time.Second)
		if w.count() > n {
			t.Errorf("%d reports while it stays offline", w.count()-n)
		}
		w.fake.SetFault(devicetest.None)
		w.settle(time.Second)
		if w.last().DeviceStatus.State != "online" || w.twin("temp").Reported.Metadata.Quality != "good" {
			t.Errorf("back: %+v", w.last())
		}
	})
}

// TestSameReasonIsToldOnce: when a server goes, it takes thousands of properties along.
func TestSameReasonIsToldOnce(t *testing.T) {
	simulate(t, func(w *world) {
		var model, properties []string
		for i := range 400 {
			name := fmt.Sprintf("p%03d", i)
			model = append(model, `{"name": "`+name+`", "type": "INT", "accessMode": "ReadOnly"}`)
			properties = append(properties, `{"name": "`+name+`", "visitors": {"configData": {"cell": "`+name+`"}}}`)
			switch {
			case i < 100: // "no such cell"
			case i < 103:
				w.fake.Refuse("1", name, "illegal data address (2)")
			case i < 200:
				w.fake.Refuse("1", name, "the reason of "+name)
			default:
				w.fake.Set("1", name, device.Int(1))
			}
		}
		w.apply(wire.KindDeviceModel, "m", `{"metadata": {"name": "m", "namespace": "ns"}, "spec": {"protocol": "fake", "properties": [`+strings.Join(model, ",")+`]}}`)
		w.apply(wire.KindDevice, "d", deviceDoc("1", properties...))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		ready := w.condition("Ready")
		for _, want := range []string{
			`200 of 400 properties cannot be read: 100 properties ("p000", "p001", "p002", "p003", "p004" …): no such cell; properties "p100", "p101", "p102": illegal data address (2); property "p103": the reason of p103; `,
			`; and 83 properties for other reasons`,
		} {
			if ready.Reason != "PropertyErrors" || !strings.Contains(ready.Message, want) {
				t.Errorf("%q is not in %s: %s", want, ready.Reason, ready.Message)
			}
		}
		if len(ready.Message) > maxMessage+len("…") || strings.Count(ready.Message, "no such cell") != 1 {
			t.Errorf("%d bytes: %s", len(ready.Message), ready.Message)
		}
	})
}

// TestMessagesAreCutBetweenMessages: what does not fit is counted.
func TestMessagesAreCutBetweenMessages(t *testing.T) {
	long := make([]string, 300)
	for i := range long {
		long[i] = fmt.Sprintf("field %03d is wrong", i)
	}
	if got := several(long, "; "); len(got) > maxMessage || !strings.HasSuffix(got, "is wrong; … and 199 more") {
		t.Errorf("%d bytes: …%s", len(got), got[len(got)-60:])
	}
	if got := several(long[:2], "; "); got != "field 000 is wrong; field 001 is wrong" {
		t.Error(got)
	}
	if got := several([]string{strings.Repeat("é", maxMessage)}, "; "); len(got) > maxMessage+len("…") || !strings.HasSuffix(got, "é…") {
		t.Errorf("%d bytes", len(got))
	}
}

func TestOneBadPropertyMakesTheDeviceUnhealthy(t *testing.T) {
	simulate(t, func(w *world) {
		w.fake.Refuse("1", "o", "illegal data address (2)")
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp, onProp))
		w.start()
		defer w.stop()
		ready := w.condition("Ready")
		if w.last().DeviceStatus.State != "unhealthy" || ready.Reason != "PropertyErrors" || !strings.Contains(ready.Message, `property "on": illegal data address (2)`) {
			t.Errorf("%+v", w.last())
		}
		if w.twin("temp").Reported.Metadata.Quality != "good" || w.twin("on").Reported.Metadata.Quality != "bad" {
			t.Errorf("%+v", w.last().DeviceStatus.Twins)
		}
	})
}

// TestNeverOnlineOverARestart: a device that has never answered is not said to have been online when the agent asked it.
func TestNeverOnlineOverARestart(t *testing.T) {
	simulate(t, func(w *world) {
		w.fake.SetFault(devicetest.Off)
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		w.settle(time.Minute)
		w.stop()
		w.start()
		defer func() { w.stop() }()
		w.settle(time.Minute)
		if at := w.last().DeviceStatus.LastOnlineTime; at != "" || !w.host.Status()[0].LastOnline.IsZero() || len(w.records) == 0 {
			t.Errorf("online at %q, %d records", at, len(w.records))
		}
		w.fake.SetFault(devicetest.None)
		w.settle(time.Minute)
		online := w.last().DeviceStatus.LastOnlineTime
		w.stop()
		w.fake.SetFault(devicetest.Off)
		w.start()
		w.settle(time.Minute)
		if at := w.last().DeviceStatus.LastOnlineTime; online == "" || at == "" {
			t.Errorf("online at %q, after a restart at %q", online, at)
		}
	})
}

func TestPanickingDriverIsRestartedAlone(t *testing.T) {
	for name, fault := range map[string]devicetest.Fault{"in Read": devicetest.Panic, "in Open": devicetest.OpenPanics} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.fake.SetFault(fault)
				w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
				w.start()
				defer w.stop()
				w.settle(10 * time.Minute)
				if n := w.fake.Opens("1"); n < 5 || n > 30 {
					t.Errorf("%d restarts in ten minutes", n)
				}
				if c := w.condition("Ready"); c.Reason != "DriverFailed" || !strings.Contains(c.Message, "the driver panicked: fake:") || w.fake.Live() > 0 {
					t.Errorf("%+v, %d sessions", c, w.fake.Live())
				}
				w.fake.SetFault(devicetest.None)
				w.settle(2 * time.Minute)
				if w.last().DeviceStatus.State != "online" || w.twin("temp").Reported.Metadata.Quality != "good" {
					t.Errorf("after the fault: %+v", w.last())
				}
			})
		})
	}
}

func TestWedgedDriverIsGivenUp(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		w.fake.SetFault(devicetest.Wedge)
		w.settle(20 * time.Second)
		if c := w.condition("Ready"); c.Reason != "DriverFailed" || !strings.Contains(c.Message, "did not return from a call within 12s") {
			t.Errorf("%+v", c)
		}
		w.settle(time.Hour)
		if n := w.host.calls.Load(); n > maxHanging {
			t.Errorf("%d calls hang", n)
		}
		w.fake.SetFault(devicetest.None)
		w.settle(2 * time.Minute)
		if w.last().DeviceStatus.State != "online" {
			t.Errorf("after the fault: %+v", w.last())
		}
		w.stop()
		w.settle(time.Minute)
		if n, live := w.host.calls.Load(), w.fake.Live(); n != 0 || live != 0 {
			t.Errorf("%d calls, %d sessions left", n, live)
		}
	})
}

func TestStopWithAWedgedDriver(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.start()
		w.fake.SetFault(devicetest.Wedge)
		w.settle(time.Second)
		begin := time.Now()
		w.stop()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
		w.fake.SetFault(devicetest.None)
		w.settle(time.Minute)
	})
}

func TestDriversThatClaimTheSameProtocol(t *testing.T) {
	if _, err := New(Options{Drivers: []device.Driver{devicetest.NewFake(), devicetest.NewFake()}}); err == nil || !strings.Contains(err.Error(), `"fake"`) {
		t.Errorf("%v", err)
	}
}

func TestSchedulerKeepsPhaseAndSkipsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler()
		w := &worker{active: true} // nobody takes its mail
		start := time.Now()
		s.set(w, taskGroup, start.Add(100*time.Millisecond), 100*time.Millisecond)
		s.set(w, taskRetry, start.Add(150*time.Millisecond), 0)
		if wait := s.fire(start); wait != 100*time.Millisecond || len(w.mail.tasks) != 0 {
			t.Errorf("wait %v, tasks %v", wait, w.mail.tasks)
		}
		if wait := s.fire(start.Add(370 * time.Millisecond)); wait != 30*time.Millisecond || len(w.mail.tasks) != 2 {
			t.Errorf("wait %v, tasks %v", wait, w.mail.tasks)
		}
		s.set(w, taskFlush, start.Add(400*time.Millisecond), 0)
		s.clear(w, taskFlush)
		s.drop(w)
		if len(s.queue) != 0 || len(s.byTask) != 0 {
			t.Errorf("left %d entries", len(s.queue))
		}
	})
}

// TestSlowPolls: reads are made at every other instant of their phase, everything else at its own, and all of them again later.
func TestSlowPolls(t *testing.T) {
	start := time.Unix(0, 0)
	s, w := newScheduler(), &worker{active: true}
	s.set(w, taskGroup, start.Add(time.Second), time.Second)
	s.set(w, taskFlush, start.Add(time.Second), time.Second)
	s.stretch(2)
	next := func(at time.Duration) (group, flush time.Duration) {
		s.fire(start.Add(at))
		return s.byTask[w][taskGroup].at.Sub(start), s.byTask[w][taskFlush].at.Sub(start)
	}
	if group, flush := next(time.Second); group != 3*time.Second || flush != 2*time.Second {
		t.Errorf("slow: a read at %v, flush at %v", group, flush)
	}
	if group, _ := next(6500 * time.Millisecond); group != 7*time.Second {
		t.Errorf("after some were missed: %v", group)
	}
	s.stretch(1)
	if group, _ := next(7 * time.Second); group != 8*time.Second {
		t.Errorf("as ever: %v", group)
	}
}

// haywire is a driver whose points panic when they are asked for their name.
type haywire struct{ *devicetest.Fake }

type haywirePoint struct{ device.Point }

func (haywirePoint) String() string { panic("no name") }

func (haywire) Protocols() []string { return []string{"haywire"} }

func (h haywire) Compile(cfg device.PointConfig) (device.Point, error) {
	p, err := h.Fake.Compile(cfg)
	return haywirePoint{p}, err
}

// Read never looks at the points, which are not the fake's own.
func (h haywire) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	s, err := h.Fake.Open(ctx, cfg)
	return haywireSession{s}, err
}

type haywireSession struct{ device.Session }

func (haywireSession) Read(_ context.Context, points []device.Point, _ []device.Value) error {
	_ = points[0].String()
	return nil
}

// TestANeighbourIsNotDisturbed runs a good device beside one whose driver panics wherever it can.
func TestANeighbourIsNotDisturbed(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(wire.KindDevice, "d", deviceDoc("1", tempProp))
		w.apply(wire.KindDevice, "bad", strings.NewReplacer(`"name": "d"`, `"name": "bad"`, `"protocolName": "fake"`, `"protocolName": "haywire"`).Replace(deviceDoc("1", tempProp)))
		w.drivers = append(w.drivers, haywire{devicetest.NewFake()})
		w.start()
		defer w.stop()
		w.settle(5 * time.Minute)
		n := w.count()
		w.fake.Set("1", "t", device.Float32(30))
		w.settle(100 * time.Millisecond)
		if w.count() != n+1 || w.twin("temp").Reported.Value != "30" || w.fake.Opens("1") != 1 {
			t.Errorf("the good device: %+v, %d sessions", w.last(), w.fake.Opens("1"))
		}
		for _, st := range w.host.Status() {
			if st.Name == "bad" && (st.Ready || st.Reason != "DriverFailed") {
				t.Errorf("the bad device: %+v", st)
			}
		}
	})
}

// slowOpen takes its time to open a session, and does not look at its context.
type slowOpen struct{ *devicetest.Fake }

func (slowOpen) Protocols() []string { return []string{"slow"} }

func (s slowOpen) Open(ctx context.Context, cfg device.Config) (device.Session, error) {
	time.Sleep(2 * time.Second)
	return s.Fake.Open(context.WithoutCancel(ctx), cfg)
}

// TestSessionOfARemovedDevice: a session that is opened while its device is removed is closed, and not left to occupy the device.
func TestSessionOfARemovedDevice(t *testing.T) {
	simulate(t, func(w *world) {
		slow := slowOpen{devicetest.NewFake()}
		slow.Set("1", "t", device.Float32(1))
		w.drivers = []device.Driver{slow}
		w.apply(wire.KindDevice, "d", strings.Replace(deviceDoc("1", tempProp), `"protocolName": "fake"`, `"protocolName": "slow"`, 1))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		w.apply(wire.KindDevice, "d", "")
		w.settle(10 * time.Second)
		if slow.Opens("1") != 1 || slow.Live() != 0 {
			t.Errorf("%d sessions opened, %d left", slow.Opens("1"), slow.Live())
		}
	})
}
