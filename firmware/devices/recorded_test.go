package devices

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

func TestRecorded(t *testing.T) {
	for _, c := range []struct {
		host   map[string]any
		pushed bool
		want   bool
		wrong  string
	}{
		{nil, false, false, ""},
		{nil, true, true, ""},
		{map[string]any{"history": true}, false, true, ""},
		{map[string]any{"history": "True"}, false, true, ""},
		{map[string]any{"history": false}, true, false, ""},
		{map[string]any{"history": 5}, false, false, `spec.properties[speed].visitors.configData.history: "5": allowed: true`},
	} {
		p := &plan{}
		got := p.recorded(&property{more: &uncommon{host: c.host}}, c.pushed, "spec.properties[speed].visitors.configData")
		if got != c.want || (c.wrong == "") != (len(p.problems) == 0) {
			t.Errorf("%v, pushed %v: %v, %v", c.host, c.pushed, got, p.problems)
		}
		if c.wrong != "" && !strings.HasPrefix(p.problems[0].message, c.wrong) {
			t.Errorf("%v: %q", c.host, p.problems[0].message)
		}
	}
}

// memory is a History that keeps what it is told.
type memory struct {
	mu      sync.Mutex
	values  []string
	retains []string // which of the devices a, d and x there are
	missed  uint64
	gaps    bool // what is missed stands among the values
}

func (m *memory) Missed(_, _ string, n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missed += n
	if m.gaps {
		m.values = append(m.values, fmt.Sprintf("%d missed", n))
	}
}

func (m *memory) Record(namespace, name, property string, v device.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = append(m.values, namespace+"/"+name+"/"+property+"="+v.Text())
}

func (m *memory) Retain(has func(namespace, device string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := ""
	for _, name := range []string{"a", "d", "x"} {
		if has("ns", name) {
			there += name
		}
	}
	m.retains = append(m.retains, there)
}

// TestHistoryThatIsOff: a device that asks for a history on a gateway that keeps none is polled all the same, and its condition names the field and what to do.
func TestHistoryThatIsOff(t *testing.T) {
	const asks = `"configData": {"history": true, `
	doc := strings.ReplaceAll(deviceDoc("1", tempProp, onProp, setProp("")), `"configData": {"cell"`, asks+`"cell"`)
	for name, c := range map[string]struct {
		doc, why, want string
	}{
		"several properties": {doc, "devices.history.maxBytes is 0 on this gateway: set it", `spec.properties[temp].visitors.configData.history (and 2 more properties): values are read and reported, and not kept: ` +
			`devices.history.maxBytes is 0 on this gateway: set it; or remove the field`},
		"one, for no reason that is known": {strings.Replace(deviceDoc("1", tempProp, onProp), `"configData": {"cell": "o"`, asks+`"cell": "o"`, 1), "",
			`spec.properties[on].visitors.configData.history: values are read and reported, and not kept: this agent keeps no history of device values; or remove the field`},
		"none": {deviceDoc("1", tempProp), "off", ""},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				w.apply(wire.KindDevice, "d", c.doc)
				w.noHistory = c.why
				w.start()
				defer w.stop()
				w.settle(2 * time.Second)
				if got := w.twin("temp").Reported.Value; got != "21.5" {
					t.Errorf("temp is %q", got)
				}
				cond := w.condition("Valid")
				if c.want == "" {
					if cond.Status != "True" {
						t.Errorf("%+v", cond)
					}
					return
				}
				if cond.Status != "False" || cond.Reason != "NoHistory" || cond.Message != c.want {
					t.Errorf("%+v, want %q", cond, c.want)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if !slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, "NoHistory: spec.properties[") }) {
					t.Errorf("events: %q", w.events)
				}
			})
		})
	}
}

// TestHistoryKnowsTheDevices: the history is told at the start which devices there are, and again when one was removed.
func TestHistoryKnowsTheDevices(t *testing.T) {
	simulate(t, func(w *world) {
		m := &memory{}
		w.history = m
		w.apply(wire.KindDevice, "d", strings.Replace(deviceDoc("1", tempProp), `"cell"`, `"history": true, "cell"`, 1))
		w.apply(wire.KindDevice, "x", strings.Replace(deviceDoc("1"), `"name": "d"`, `"name": "x"`, 1))
		w.start()
		defer w.stop()
		w.settle(time.Second)
		if c := w.condition("Valid"); c.Status != "True" {
			t.Errorf("%+v", c)
		}
		w.apply(wire.KindDevice, "d", "")
		w.settle(time.Second)
		m.mu.Lock()
		defer m.mu.Unlock()
		if !slices.Equal(m.retains, []string{"dx", "x"}) || !slices.Contains(m.values, "ns/d/temp=21.5") {
			t.Errorf("there are %q; recorded %q", m.retains, m.values)
		}
	})
}
