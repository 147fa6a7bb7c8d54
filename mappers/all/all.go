package all

import (
	"log/slog"

	"github.com/skerry/skerry/mappers/device"
)

// Options are what drivers need of their surroundings.
type Options struct {
	// StateDir is the agent's state directory; a driver that keeps files (certificates, captures) makes a folder of its
	// own below it. Empty: the driver keeps nothing, which is enough to check and compile.
	StateDir string
	Log      *slog.Logger // nil: slog.Default()
}

// Drivers returns one new instance of every driver that is built in.
func Drivers(opt Options) []device.Driver {
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	var out []device.Driver
	for _, newDriver := range []func(Options) device.Driver{newModbus, newOPCUA, newSerial} {
		if d := newDriver(opt); d != nil {
			out = append(out, d)
		}
	}
	return out
}
