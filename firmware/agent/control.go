package agent

import (
	"context"

	"github.com/skerry/skerry/firmware/control"
)

// serveControl serves `skerryctl device`.
func (a *Agent) serveControl(ctx context.Context) error {
	return control.New(control.Options{Socket: a.cfg.Control.Socket, Devices: a.devices, Explorer: a.devices, Drivers: a.drivers, Log: a.log.With("part", "control")}).Run(ctx)
}
