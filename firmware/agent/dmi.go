package agent

import (
	"fmt"
	"io"
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

// writeMappers writes the figures of the mappers that have registered. There is one for each protocol, and their number is bounded; names are printable.
func writeMappers(w io.Writer, all []mapper.Status) {
	for _, s := range all {
		labels := fmt.Sprintf("protocol=%q,mapper=%q", s.Protocol, s.Name)
		fmt.Fprintf(w, "skerry_dmi_mapper_up{%s} %v\n", labels, oneIf(s.Trouble == ""))
		fmt.Fprintf(w, "skerry_dmi_devices{%s} %d\n", labels, s.Devices)
		fmt.Fprintf(w, "skerry_dmi_reports_total{%s} %d\n", labels, s.Reports)
		fmt.Fprintf(w, "skerry_dmi_reports_refused_total{%s} %d\n", labels, s.Refused)
	}
}
