package devices

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// CyclePlan is what reading the properties of one collectCycle costs.
type CyclePlan struct {
	Every      time.Duration
	Properties []string // by the indexes of the requests' points
	device.Plan
}

// Plan says what polling a device costs, from its configuration alone: the device is not asked. Its error says why nothing can be
// said, in words for the technician, or, with what can be said, which properties are left out; it wraps errors.ErrUnsupported if the device's driver does not plan.
func (h *Host) Plan(namespace, name string) ([]CyclePlan, error) {
	w, err := h.worker(namespace, name)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	p := w.plan
	w.mu.Unlock()
	if p == nil {
		return nil, errors.New("the device has just come and is not resolved yet: try again")
	}
	out, err := p.cycles()
	if err == nil {
		err = p.left()
	}
	return out, err
}

// left says which properties are in no cycle because their configuration is wrong.
func (p *plan) left() error {
	var wrong []string
	for i := range p.properties {
		if why := p.properties[i].has().pointErr; why != "" {
			wrong = append(wrong, why)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d properties are not read, because their configuration is wrong: %s", len(wrong), len(p.properties), several(wrong, "; "))
}

// PlanManifest is Plan for manifests that have not been applied; model is nil if there is none. problems are what the conditions
// of the Device would say. ports are the board's.
func PlanManifest(d *devicev1.Device, model *devicev1.DeviceModel, drivers []device.Driver, ports []Port) (cycles []CyclePlan, problems []string, err error) {
	byName := make(map[string]device.Driver)
	for _, driver := range drivers {
		for _, name := range driver.Protocols() {
			byName[strings.ToLower(name)] = driver
		}
	}
	p := resolve(d, model, table{own: byName}, ports)
	for _, x := range p.problems {
		problems = append(problems, x.reason+": "+x.message)
	}
	if p.driver == nil {
		return nil, problems, nil
	}
	cycles, err = p.cycles()
	return cycles, problems, err
}

// cycles plans each collectCycle of a device, the shortest first.
func (p *plan) cycles() ([]CyclePlan, error) {
	if p.driver == nil {
		var why []string
		for _, x := range p.problems {
			why = append(why, x.message)
		}
		return nil, fmt.Errorf("the device cannot be polled: %s", strings.Join(why, "; "))
	}
	planner, ok := p.driver.(device.Planner)
	if !ok {
		return nil, fmt.Errorf("devices of protocol %s have no plan of requests: %w", p.driver.Protocols()[0], errors.ErrUnsupported)
	}
	groups := make(map[time.Duration][]*property)
	for i := range p.properties {
		if prop := &p.properties[i]; prop.readable() {
			groups[prop.collect] = append(groups[prop.collect], prop)
		}
	}
	var out []CyclePlan
	for _, every := range slices.Sorted(maps.Keys(groups)) {
		c := CyclePlan{Every: every}
		var points []device.Point
		for _, prop := range groups[every] {
			c.Properties, points = append(c.Properties, prop.name), append(points, prop.point)
		}
		err := guard(func() (err error) {
			c.Plan, err = planner.Plan(p.config, points, every)
			return err
		})
		if err != nil {
			return out, fmt.Errorf("plan the properties that are read every %v: %w", every, err)
		}
		out = append(out, c)
	}
	return out, nil
}
