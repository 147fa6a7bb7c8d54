package devices

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// planner is a driver that plans: one request for each point.
type planner struct{ device.Driver }

func (planner) Protocols() []string { return []string{"planned"} }

func (planner) Plan(_ device.Config, points []device.Point, _ time.Duration) (device.Plan, error) {
	var p device.Plan
	for i := range points {
		p.Requests = append(p.Requests, device.PlannedRequest{Text: points[i].String(), Points: []int{i}})
	}
	return p, nil
}

// TestPlanSaysWhatIsLeftOut: a property whose configuration is wrong is in no cycle, and a plan that did not say so would look whole.
func TestPlanSaysWhatIsLeftOut(t *testing.T) {
	simulate(t, func(w *world) {
		w.drivers = []device.Driver{planner{w.fake}}
		doc := strings.Replace(deviceDoc("1", tempProp, strings.Replace(onProp, "cell", "cel", 1)), `"protocolName": "fake"`, `"protocolName": "planned"`, 1)
		w.apply(wire.KindDevice, "d", doc)
		w.start()
		defer w.stop()
		cycles, err := w.host.Plan("ns", "d")
		if len(cycles) != 1 || strings.Join(cycles[0].Properties, " ") != "temp" {
			t.Errorf("%+v", cycles)
		}
		if err == nil || !strings.HasPrefix(err.Error(), "1 of 2 properties are not read, because their configuration is wrong: spec.properties[on].visitors.configData.cell: is missing") {
			t.Errorf("%v", err)
		}
		w.apply(wire.KindDevice, "d", strings.Replace(doc, `"cel"`, `"cell"`, 1))
		w.settle(time.Second)
		if cycles, err := w.host.Plan("ns", "d"); err != nil || len(cycles[0].Requests) != 2 {
			t.Errorf("%+v %v", cycles, err)
		}
		if _, err := w.host.Plan("ns", "e"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if w.host.Has("ns", "e") || !w.host.Has("ns", "d") {
			t.Error("Has is wrong")
		}
	})
}
