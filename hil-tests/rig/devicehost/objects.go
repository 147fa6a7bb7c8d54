package devicehost

import (
	"github.com/skerry/skerry/firmware/wire"
)

// Property is one property of a device and of its model.
type Property struct {
	Name, Type string // Type as in a DeviceModel
	Writable   bool
	Visitor    map[string]any
	Collect    int64 // ms; 0: the default
	Report     int64 // ms
	Local      bool  // is not reported to the cloud
	Desired    string
}

// Model is the DeviceModel of properties.
func Model(name, protocol string, properties []Property) Object {
	var list []any
	for _, p := range properties {
		mode := "ReadOnly"
		if p.Writable {
			mode = "ReadWrite"
		}
		list = append(list, map[string]any{"name": p.Name, "type": p.Type, "accessMode": mode})
	}
	return Object{wire.KindDeviceModel, name, map[string]any{"protocol": protocol, "properties": list}}
}

// Device is a Device of a model.
func Device(name, model, protocol string, config map[string]any, properties []Property) Object {
	var list []any
	for _, p := range properties {
		m := map[string]any{"name": p.Name, "visitors": map[string]any{"protocolName": protocol, "configData": p.Visitor}}
		if p.Collect != 0 {
			m["collectCycle"] = p.Collect
		}
		if p.Report != 0 {
			m["reportCycle"] = p.Report
		}
		if p.Local {
			m["reportToCloud"] = false
		}
		if p.Desired != "" {
			m["desired"] = map[string]any{"value": p.Desired}
		}
		list = append(list, m)
	}
	return Object{wire.KindDevice, name, map[string]any{
		"deviceModelRef": map[string]any{"name": model}, "nodeName": "gw-1",
		"protocol": map[string]any{"protocolName": protocol, "configData": config}, "properties": list,
	}}
}
