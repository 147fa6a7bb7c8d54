package all

import "github.com/skerry/skerry/mappers/device"

// Drivers returns one new instance of every driver that is built in.
func Drivers() []device.Driver {
	var out []device.Driver
	for _, newDriver := range []func() device.Driver{newModbus, newSerial} {
		if d := newDriver(); d != nil {
			out = append(out, d)
		}
	}
	return out
}
