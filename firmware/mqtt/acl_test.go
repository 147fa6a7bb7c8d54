package mqtt

import (
	"strings"
	"testing"
)

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		rule, filter string
		want         bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b", false}, {"a/+", "a/b", true}, {"a/+", "a/+", true}, {"a/+", "a/#", false}, {"a/+", "a", false},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"a/#", "a/#", true}, {"a/#", "a/+/c", true}, {"a/#", "#", false}, {"a/#", "+", false}, {"a/b/#", "a/#", false},
		{"#", "a/b", true}, {"#", "#", true}, {"#", "+/x", true}, {"#", "$hw/x", false}, {"+/x", "$hw/x", false}, {"$hw/#", "$hw/x", true}, {"+", "#", false},
		{"a/+/c", "a/b/c", true}, {"a/b/c", "a/+/c", false}, {"a//c", "a//c", true}, {"a/+/c", "a//c", true}, {"a", "a/", false}, {"a/+", "a/", true}, {"a/b/#", "a", false},
	} {
		if got := covers(tc.rule, tc.filter); got != tc.want {
			t.Errorf("covers(%q, %q) = %v", tc.rule, tc.filter, got)
		}
	}
}

func TestIdentities(t *testing.T) {
	pump := &Identity{Name: "pump", Device: "default/pump"}
	app := &Identity{Name: "app", Publish: []string{"plant/#", "$hw/events/device/default/+/twin/update", "$hw/#"}, Subscribe: []string{"plant/+/state", "$hw/events/node/gw-1/#"}}
	for _, tc := range []struct {
		id    *Identity
		write bool
		topic string
		want  bool
	}{
		{pump, true, "$hw/events/device/default/pump/twin/update", true},
		{pump, true, "$hw/events/device/default/pump/state/update", true},
		{pump, true, "$hw/events/device/default/pump/twin/update/result", false},
		{pump, true, "$hw/events/device/default/pump/twin/update/document", false},
		{pump, true, "$hw/events/device/default/valve/twin/update", false},
		{pump, true, "$hw/events/device/other/pump/twin/update", false},
		{pump, true, "$hw/events/node/gw-1/membership/get", false},
		{pump, true, "plant/x", false},
		{pump, false, "$hw/events/device/default/pump/#", true},
		{pump, false, "$hw/events/device/default/pump/twin/update/delta", true},
		{pump, false, "$hw/events/device/default/+/twin/update/delta", false},
		{pump, false, "$hw/events/device/default/pump2/twin/get", false},
		{pump, false, "$hw/#", false}, {pump, false, "#", false}, {pump, false, "+/+/+/default/pump/#", false},
		{pump, false, "$share/g/$hw/events/device/default/pump/#", true},
		{pump, false, "$share/g/$hw/events/device/default/#", false},
		{pump, false, "$share/+/$hw/events/device/default/pump/#", false},
		{pump, false, "$share/g", false}, {pump, false, "$SHARE/g/#", false},
		{app, true, "plant/a/b", true}, {app, true, "plant/+", false}, {app, true, "other", false},
		{app, true, "$hw/events/device/default/valve/twin/update", true},
		{app, true, "$hw/events/device/default/valve/twin/update/result", false},
		{app, true, "$hw/events/node/gw-1/membership/get", true},
		{app, true, "$hw/events/node/gw-1/membership/updated", false},
		{app, true, "$hw/events/upload/x", true},
		{app, true, "$share/g/plant/x", false},
		{app, false, "plant/+/state", true}, {app, false, "plant/#", false}, {app, false, "+/+/state", false},
		{app, false, "$hw/events/node/gw-1/membership/#", true},
		{app, false, "plant/x\x00/state", false}, {app, false, strings.Repeat("a/", 40), false}, {app, false, "plant/a+/state", false},
	} {
		got := tc.id.mayReceive(tc.topic)
		if tc.write {
			got = tc.id.mayPublish(tc.topic)
		}
		if got != tc.want {
			t.Errorf("%s, write %v, %q: %v", tc.id.Name, tc.write, tc.topic, got)
		}
	}
}

// FuzzCovers: what a rule covers, it matches for every topic; coverage is transitive and reflexive.
func FuzzCovers(f *testing.F) {
	f.Add("a/+/#", "a/b/+", "a/b/c")
	f.Add("#", "$hw/+", "$hw/x")
	f.Add("$hw/#", "$hw", "$hw")
	f.Fuzz(func(t *testing.T, rule, filter, topic string) {
		if !ValidFilter(rule) || !ValidFilter(filter) || !ValidTopic(topic) {
			return
		}
		if covers(rule, filter) && covers(filter, topic) && !covers(rule, topic) {
			t.Errorf("%q covers %q, which matches %q, which the rule does not", rule, filter, topic)
		}
		if !strings.HasPrefix(filter, "$") && !covers(filter, filter) {
			t.Errorf("%q does not cover itself", filter)
		}
	})
}

// FuzzRequest: what is taken for a request is one that the agent would name itself.
func FuzzRequest(f *testing.F) {
	f.Add("$hw/events/device/default/pump/twin/update")
	f.Add("$hw/events/node/gw-1/membership/get")
	f.Add("$hw/events/device//pump/twin/get")
	f.Fuzz(func(t *testing.T, topic string) {
		r, ok := parseRequest(topic)
		if !ok {
			return
		}
		if !reserved(topic) || !ValidTopic(topic) {
			t.Errorf("%q is a request on a topic that is not the agent's", topic)
		}
		want := nodeTopic(r.name, "get")
		if r.kind != membershipGet {
			want = deviceTopic(r.namespace, r.name, suffixes[r.kind])
			if !ValidDevice(r.device()) {
				t.Errorf("%q: device %q", topic, r.device())
			}
		}
		if topic != want {
			t.Errorf("%q was read as %q", topic, want)
		}
	})
}

// FuzzGate: nothing but a CONNECT of a bounded length opens the gate, however its bytes arrive.
func FuzzGate(f *testing.F) {
	f.Add([]byte{0x10, 0x0c, 0, 4}, 1)
	f.Add([]byte{0x10, 0xff, 0xff, 0xff, 0x7f, 0}, 2)
	f.Add([]byte{0x30, 2, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		whole, pieces := new(gate), new(gate)
		err := whole.pass(b)
		at = max(0, min(at, len(b)))
		err2 := pieces.pass(b[:at])
		if err2 == nil {
			err2 = pieces.pass(b[at:])
		}
		if (err == nil) != (err2 == nil) || err == nil && whole.open != pieces.open {
			t.Errorf("%x: %v whole, %v in pieces", b, err, err2)
		}
		if err == nil && len(b) > 0 && b[0] != packetConnect {
			t.Errorf("%x passed", b)
		}
		if whole.open && whole.length > maxConnect && err == nil {
			t.Errorf("%x: a length of %d passed", b, whole.length)
		}
	})
}
