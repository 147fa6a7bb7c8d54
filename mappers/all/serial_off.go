//go:build noserial

package all

import "github.com/skerry/skerry/mappers/device"

func newSerial(Options) device.Driver { return nil }
