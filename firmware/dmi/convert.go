package dmi

import (
	"cmp"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/dmi"
)

const defaultNamespace = "default"

// deviceOf is a Device with its model as a mapper gets it.
func deviceOf(d *devicev1.Device, m *devicev1.DeviceModel) dmi.Device {
	out := dmi.Device{Namespace: d.Metadata.Namespace, Name: d.Metadata.Name, Model: m.Metadata.Name, Protocol: protocolOf(d, m),
		Config: devices.Overlay(m.Spec.ProtocolConfigData, d.Spec.Protocol.ConfigData)}
	declared := make(map[string]*devicev1.ModelProperty, len(m.Spec.Properties))
	for i := range m.Spec.Properties {
		declared[m.Spec.Properties[i].Name] = &m.Spec.Properties[i]
	}
	seen := make(map[string]bool, len(d.Spec.Properties))
	for i := range d.Spec.Properties {
		p := &d.Spec.Properties[i]
		mp := declared[p.Name]
		if mp == nil || seen[p.Name] {
			continue // the Device's condition says so
		}
		seen[p.Name] = true
		visitor := p.Visitors.ConfigData
		if len(visitor) == 0 && mp.Visitors != nil {
			visitor = mp.Visitors.ConfigData
		}
		own, calculated := devices.OwnFields(visitor)
		if calculated {
			continue
		}
		out.Properties = append(out.Properties, dmi.Property{Name: p.Name, Visitor: own, CollectCycle: p.CollectCycle, ReportCycle: p.ReportCycle,
			ReportToCloud: p.ReportToCloud == nil || *p.ReportToCloud})
	}
	for _, x := range d.Spec.Methods {
		out.Methods = append(out.Methods, dmi.Method{Name: x.Name, Description: x.Description, Properties: x.PropertyNames})
	}
	return out
}

func protocolOf(d *devicev1.Device, m *devicev1.DeviceModel) string {
	return cmp.Or(d.Spec.Protocol.ProtocolName, m.Spec.Protocol)
}

func modelOf(m *devicev1.DeviceModel) dmi.Model {
	out := dmi.Model{Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}
	for _, p := range m.Spec.Properties {
		out.Properties = append(out.Properties, dmi.ModelProperty{Name: p.Name, Type: p.Type, AccessMode: p.AccessMode, Minimum: p.Minimum, Maximum: p.Maximum, Unit: p.Unit})
	}
	return out
}

func deviceMessageOf(d dmi.Device) deviceMessage {
	spec := &deviceSpec{Model: d.Model, Protocol: &protocolConfig{d.Protocol, customized(d.Config)}}
	for _, p := range d.Properties {
		spec.Properties = append(spec.Properties, deviceProperty{
			Name: p.Name, Desired: &twinProperty{Value: p.Desired}, Visitors: &protocolConfig{d.Protocol, customized(p.Visitor)},
			ReportCycle: p.ReportCycle, CollectCycle: p.CollectCycle, ReportToCloud: p.ReportToCloud,
		})
	}
	for _, m := range d.Methods {
		spec.Methods = append(spec.Methods, deviceMethod(m))
	}
	return deviceMessage{Name: d.Name, Namespace: d.Namespace, Spec: spec}
}

func modelMessageOf(m dmi.Model) deviceModel {
	spec := &modelSpec{}
	for _, p := range m.Properties {
		spec.Properties = append(spec.Properties, modelProperty{Name: p.Name, Type: p.Type, AccessMode: p.AccessMode, Minimum: p.Minimum, Maximum: p.Maximum, Unit: p.Unit})
	}
	return deviceModel{Name: m.Name, Namespace: m.Namespace, Spec: spec}
}

// twinsOf reads what a mapper reports. KubeEdge's framework has the time of a value in its metadata, in milliseconds.
func twinsOf(twins []twinMessage) []dmi.Twin {
	out := make([]dmi.Twin, 0, len(twins))
	for _, t := range twins {
		x := dmi.Twin{Property: t.Property}
		if t.Reported != nil {
			x.Value, x.Reported = t.Reported.Value, true
			if ms, err := strconv.ParseInt(t.Reported.Metadata["timestamp"], 10, 64); err == nil && ms > 0 && ms < 1<<45 {
				x.Source = time.UnixMilli(ms)
			}
		}
		out = append(out, x)
	}
	return out
}
