//go:build nomodbus

package all

import "github.com/skerry/skerry/mappers/device"

func newModbus(Options) device.Driver { return nil }
