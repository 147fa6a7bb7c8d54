package devicev1

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// encode encodes a generic document as the relay does.
func encode(t *testing.T, doc string) []byte {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(doc))
	dec.UseNumber() // whole numbers stay integers, as the canonical encoding keeps them
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	body, err := msgp.AppendIntf(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestDeviceDecodesWhatItUsesAndSkipsTheRest(t *testing.T) {
	d, err := DecodeDevice(encode(t, `{
		"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device",
		"metadata": {"name": "pump", "namespace": "default", "uid": "u1", "generation": 7, "labels": {"a": "b"}},
		"spec": {"deviceModelRef": {"name": "pump-model"}, "nodeName": "gw-1",
			"protocol": {"protocolName": "modbus", "configData": {"ip": "10.0.0.7", "port": "1502", "slaveID": 1, "deep": {"x": [1, "2", null]}}},
			"methods": [{"name": "m", "description": "x", "propertyNames": ["t"]}],
			"properties": [{"name": "t", "desired": {"value": "21.5", "metadata": {"a": "b"}}, "collectCycle": 100, "reportToCloud": false,
				"pushMethod": {"mqtt": {"qos": 1}}, "visitors": {"protocolName": "modbus", "configData": {"register": "HoldingRegister", "offset": 2}}}]},
		"status": {"conditions": []}}`))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := &Device{
		Metadata: Meta{Name: "pump", Namespace: "default", UID: "u1", Generation: 7},
		Spec: DeviceSpec{DeviceModelRef: &Ref{Name: "pump-model"}, NodeName: "gw-1",
			Protocol: ProtocolConfig{ProtocolName: "modbus", ConfigData: map[string]any{"ip": "10.0.0.7", "port": "1502", "slaveID": int64(1),
				"deep": map[string]any{"x": []any{int64(1), "2", nil}}}},
			Properties: []DeviceProperty{{Name: "t", Desired: Desired{Value: "21.5"}, CollectCycle: 100, ReportToCloud: &no,
				PushMethod: map[string]any{"mqtt": map[string]any{"qos": int64(1)}},
				Visitors:   ProtocolConfig{ProtocolName: "modbus", ConfigData: map[string]any{"register": "HoldingRegister", "offset": int64(2)}}}},
			Methods: []DeviceMethod{{Name: "m", Description: "x", PropertyNames: []string{"t"}}}},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
}

func TestModelDecodes(t *testing.T) {
	m, err := DecodeModel(encode(t, `{"metadata": {"name": "m"}, "spec": {"protocol": "modbus", "properties": [
		{"name": "t", "type": "FLOAT", "accessMode": "ReadWrite", "minimum": "-5", "maximum": "30", "unit": "C", "description": "x",
		 "visitors": {"configData": {"offset": 3}}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	p := m.Spec.Properties[0]
	if p.Type != "FLOAT" || p.AccessMode != "ReadWrite" || p.Minimum != "-5" || p.Maximum != "30" || p.Unit != "C" || p.Visitors.ConfigData["offset"] != int64(3) {
		t.Errorf("model property %+v", p)
	}
}

func TestObjectsWithoutNameAreRefused(t *testing.T) {
	if _, err := DecodeDevice(encode(t, `{"metadata": {"name": "x"}}`)); err == nil || !strings.Contains(err.Error(), "metadata.namespace") {
		t.Errorf("device without namespace: %v", err)
	}
	if _, err := DecodeModel(encode(t, `{"spec": {}}`)); err == nil || !strings.Contains(err.Error(), "metadata.name") {
		t.Errorf("model without name: %v", err)
	}
	if _, err := DecodeDevice([]byte{0xc1}); err == nil {
		t.Error("malformed bytes were accepted")
	}
}

// TestReportIsCanonical holds the encoding of a report to sorted keys and the API's names, by a trip through JSON, which
// sorts the keys of maps.
func TestReportIsCanonical(t *testing.T) {
	r := Report{
		ObservedGeneration: 3,
		Conditions:         []Condition{{Type: "Ready", Status: "True", Reason: "Polling", Message: "m", LastTransitionTime: "2026-01-02T03:04:05Z", ObservedGeneration: 3}},
		DeviceStatus: DeviceStatus{State: "online", LastOnlineTime: "2026-01-02T03:04:05Z", Twins: []Twin{{PropertyName: "t",
			Reported:        &TwinProperty{Value: "1", Metadata: TwinMetadata{Quality: "good", Timestamp: "1", Type: "INT", Unit: "C", SourceTimestamp: "2", Reason: "r"}},
			ObservedDesired: &TwinProperty{Value: "2", Metadata: TwinMetadata{Generation: "3", Outcome: "verified", Timestamp: "1"}}}}},
	}
	body, err := r.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := msgp.UnmarshalAsJSON(&got, body); err != nil {
		t.Fatal(err)
	}
	var generic any
	if err := json.Unmarshal(got.Bytes(), &generic); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(generic)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(sorted) {
		t.Errorf("keys are not sorted:\n%s\n%s", got.String(), sorted)
	}
	const want = `{"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","message":"m","observedGeneration":3,"reason":"Polling","status":"True","type":"Ready"}],` +
		`"deviceStatus":{"lastOnlineTime":"2026-01-02T03:04:05Z","state":"online","twins":[{"observedDesired":{"metadata":{"generation":"3","outcome":"verified","timestamp":"1"},"value":"2"},` +
		`"propertyName":"t","reported":{"metadata":{"quality":"good","reason":"r","sourceTimestamp":"2","timestamp":"1","type":"INT","unit":"C"},"value":"1"}}]},"observedGeneration":3}`
	if got.String() != want {
		t.Errorf("got  %s\nwant %s", got.String(), want)
	}
	var back Report
	if _, err := back.UnmarshalMsg(body); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("round trip: %v\n%+v", err, back)
	}
}

func FuzzDecodeDevice(f *testing.F) {
	f.Add([]byte{0x80})
	body, _ := msgp.AppendIntf(nil, map[string]any{"metadata": map[string]any{"name": "a", "namespace": "b"}})
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := DecodeDevice(b); err == nil && d.Metadata.Name == "" {
			t.Error("a device without a name was accepted")
		}
		_, _ = DecodeModel(b)
	})
}
