package devices

import (
	"testing"

	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

func TestOwnFields(t *testing.T) {
	own, calculated := OwnFields(map[string]any{"Address": 1, "deadband": 2, "History": true, "alarms": nil})
	if calculated || len(own) != 1 || own["Address"] != 1 {
		t.Errorf("%v, %v", own, calculated)
	}
	if _, calculated := OwnFields(map[string]any{"Expr": "a + b"}); !calculated {
		t.Error("a property with an expression is the device's")
	}
}

// TestOtherDrivers finds drivers for protocols that none is built in for.
func TestOtherDrivers(t *testing.T) {
	model := &devicev1.DeviceModel{Metadata: devicev1.Meta{Name: "m"}}
	d := &devicev1.Device{Metadata: devicev1.Meta{Name: "a", Namespace: "default"}, Spec: devicev1.DeviceSpec{DeviceModelRef: &devicev1.Ref{Name: "m"}, Protocol: devicev1.ProtocolConfig{ProtocolName: "Demo"}}}
	asked := ""
	none := func(protocol string) device.Driver { asked = protocol; return nil }
	if p := resolve(d, model, table{others: none}, nil); asked != "Demo" || len(p.problems) != 1 || p.problems[0].reason != reasonUnknownProtocol {
		t.Errorf("asked for %q, problems %+v", asked, p.problems)
	}
	d.Spec.Protocol.ProtocolName, asked = "", "nothing"
	if p := resolve(d, model, table{others: none}, nil); asked != "nothing" || p.driver != nil {
		t.Errorf("a Device without a protocol was offered as %q", asked)
	}
}
