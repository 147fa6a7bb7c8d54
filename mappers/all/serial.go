//go:build !noserial

package all

import (
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial"
)

func newSerial(Options) device.Driver { return serial.New() }
