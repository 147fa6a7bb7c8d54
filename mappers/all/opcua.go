//go:build !noopcua

package all

import (
	"github.com/skerry/skerry/mappers/device"
	"github.com/skerry/skerry/mappers/opcua"
)

func newOPCUA(o Options) device.Driver {
	return opcua.New(opcua.Options{StateDir: o.StateDir, Log: o.Log})
}
