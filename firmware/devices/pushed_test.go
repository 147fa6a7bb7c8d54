package devices

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// targets is a Push that refuses one target and notes what it is offered.
type targets struct {
	mu     sync.Mutex
	values []string
}

func (p *targets) Check(path string, method map[string]any) error {
	if method["bad"] != nil {
		return errors.New(path + ".bad: is not supported")
	}
	return nil
}

func (p *targets) Offer(namespace, name, property string, v device.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values = append(p.values, namespace+"/"+name+"/"+property+"="+v.Text())
}

func pushing(prop, method string) string {
	return strings.Replace(prop, `"visitors"`, `"pushMethod": {"`+method+`": {"x": 1}}, "visitors"`, 1)
}

// TestPushed: values go to the history if the property has one, and else to the targets at once; a wrong pushMethod is named and costs nothing else.
func TestPushed(t *testing.T) {
	for name, c := range map[string]struct {
		doc     string
		history bool
		offered bool
		kept    bool
	}{
		"with a history":    {pushing(tempProp, "good"), true, false, true},
		"history: false":    {strings.Replace(pushing(tempProp, "good"), `"cell"`, `"history": false, "cell"`, 1), true, true, false},
		"without a history": {pushing(tempProp, "good"), false, true, false},
		"no pushMethod":     {tempProp, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(w *world) {
				to, m := &targets{}, &memory{}
				if w.push = to; c.history {
					w.history = m
				}
				w.apply(wire.KindDevice, "d", deviceDoc("1", c.doc, pushing(onProp, "bad")))
				w.start()
				defer w.stop()
				w.settle(2 * time.Second)
				cond := w.condition("Valid")
				if cond.Status != "False" || cond.Reason != "InvalidPushMethod" || cond.Message != "spec.properties[on].pushMethod.bad: is not supported" {
					t.Errorf("%+v", cond)
				}
				if got := w.twin("temp").Reported.Value; got != "21.5" {
					t.Errorf("temp is %q", got)
				}
				to.mu.Lock()
				defer to.mu.Unlock()
				m.mu.Lock()
				defer m.mu.Unlock()
				const value = "ns/d/temp=21.5"
				if slices.Contains(to.values, value) != c.offered || slices.Contains(m.values, value) != c.kept {
					t.Errorf("offered %q, kept %q", to.values, m.values)
				}
			})
		})
	}
}
