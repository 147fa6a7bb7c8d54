//go:build !nomodbus

package all

import (
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/modbus"
)

func newModbus(Options) device.Driver { return modbus.New() }
