//go:build noserial

package all

import "github.com/skerry/skerry/mappers/device"

func newSerial() device.Driver { return nil }
