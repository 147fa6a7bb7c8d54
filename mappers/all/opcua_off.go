//go:build noopcua

package all

import "github.com/skerry/skerry/mappers/device"

func newOPCUA(Options) device.Driver { return nil }
