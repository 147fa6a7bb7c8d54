package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/skerry/skerry/firmware/control"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/mappers/device"
)

// serveControl serves `skerryctl device`.
func (a *Agent) serveControl(ctx context.Context) error {
	tools := deviceTools{a.devices}
	return control.New(control.Options{Socket: a.cfg.Control.Socket, Devices: tools, Explorer: tools, Drivers: a.drivers, Log: a.log.With("part", "control")}).Run(ctx)
}

// deviceTools is what the control service asks of the devices' host.
type deviceTools struct{ *devices.Host }

var errNoTool = fmt.Errorf("the host of devices does not offer it: %w", errors.ErrUnsupported)

func (deviceTools) Read(context.Context, string, string, []string) ([]devices.PropertyState, error) {
	return nil, errNoTool
}

func (deviceTools) Write(context.Context, string, string, string, string) (device.WriteResult, error) {
	return device.WriteResult{}, errNoTool
}

func (deviceTools) Call(context.Context, string, string, string, map[string]string) (map[string]string, error) {
	return nil, errNoTool
}

func (deviceTools) Browse(context.Context, string, string, string, int) ([]device.BrowseEntry, error) {
	return nil, errNoTool
}

func (deviceTools) Watch(func(string, string, string, device.Value)) func() { return func() {} }
