package devices

import (
	"fmt"

	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// checkPush says what is wrong with the pushMethods of a Device. The properties are polled and reported all the same.
func (p *plan) checkPush(d *devicev1.Device, push Push) {
	for i := range d.Spec.Properties {
		dp := &d.Spec.Properties[i]
		if dp.PushMethod == nil {
			continue
		}
		where := fmt.Sprintf("spec.properties[%s].pushMethod", dp.Name)
		if push == nil {
			p.fail(reasonNotSupported, false, "%s: this agent pushes nothing (devices.push.maxTargets is 0); the property is polled and reported", where)
			continue
		}
		if err := push.Check(where, dp.PushMethod); err != nil {
			p.fail(reasonInvalidPush, false, "%s", oneLine(err))
		}
	}
}
