package devices

import (
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// reading is one fresh value on its way into the twin, converted to the model's type.
type reading struct {
	prop  *property
	twin  *propertyTwin
	value device.Value
}

// stageFields judges the host-level fields of a visitor (prop.host) that belong to the stage. It tells whether the property is derived: such a
// property has no point, and its value comes from stage.
func (p *plan) stageFields(prop *property, where string) (derived bool) {
	return false
}

// stage stands between reading and twin. It gets each batch of fresh values in the order of the plan, and returns what the twins
// shall take over. It is called with the worker's lock held, and does no I/O.
func (w *worker) stage(fresh []reading, now time.Time) []reading { return fresh }

// keep hands a value that changed, in datum or quality, to the history if the property asks for it.
func (w *worker) keep(prop *property, v device.Value) {
	if prop.recorded && w.host.opt.History != nil {
		w.host.opt.History.Record(w.key.Namespace(), w.key.Name(), prop.name, v)
	}
}
