package agent

import (
	"path/filepath"

	"github.com/skerry/skerry/firmware/dmi"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
	mapper "github.com/skerry/skerry/mappers/dmi"
)

// newDMI returns what serves mappers in other processes, nil if that is off.
func (a *Agent) newDMI() *dmi.Service {
	c := a.cfg.DMI
	if !c.Enabled {
		return nil
	}
	var builtIn []string
	for _, d := range a.drivers {
		builtIn = append(builtIn, d.Protocols()...)
	}
	return dmi.New(dmi.Options{
		Socket: c.Socket, UIDs: c.UIDs, GIDs: c.GIDs, MaxMessage: int(c.MaxMessage),
		Registry: mapper.Options{BuiltIn: builtIn, MaxDevices: c.MaxDevices, MaxReports: c.MaxReports, CallTimeout: c.CallTimeout},
		Desired:  a.desired, Watch: a.desired.Watch(wire.KindDevice, wire.KindDeviceModel),
		StateFile: filepath.Join(a.cfg.DataDir, "dmi", "mappers.json"),
		Log:       a.log.With("part", "dmi"),
	})
}

// otherDrivers finds drivers for protocols that none is built in for, nil: there are none.
func (a *Agent) otherDrivers() func(protocol string) device.Driver {
	if a.dmi == nil {
		return nil
	}
	return a.dmi.Registry.Driver
}
