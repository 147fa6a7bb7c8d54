//go:build !noserial

package all

import (
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/serial"
)

func newSerial() device.Driver { return serial.New() }
