package devices

import "github.com/skerry/skerry/mappers/device"

// follow tells a session whose device another process runs what is wanted of it.
func (w *worker) follow() {
	f, able := w.session.(device.Follower)
	if !able {
		return
	}
	wanted := make([]device.Write, 0, len(w.wants))
	for _, i := range w.wants {
		prop, t := &w.plan.properties[i], &w.twins[i]
		if !prop.readable() || !t.wanted() {
			continue
		}
		if v, err := prop.check(t.want.Desired().Value); err == nil { // else the twin says why not
			wanted = append(wanted, device.Write{Point: prop.point, Value: v})
		}
	}
	f.Follow(wanted)
}
