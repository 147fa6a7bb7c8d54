package agent

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/devices"
)

// TestStatusShowsAlarms: who stands at the gateway sees what is in alarm, and why.
func TestStatusShowsAlarms(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := Status{Devices: []DeviceStatus{deviceStatus(devices.DeviceState{Namespace: "ns", Name: "boiler", Protocol: "modbus", State: "online", Ready: true,
		Alarms: []devices.AlarmState{{Name: "hot", Property: "temp", Severity: "high", Level: "HighHigh", Since: now.Add(-90 * time.Second), Message: "93 C is above highHigh 90"}}})}}
	var b bytes.Buffer
	s.Print(&b, now)
	for _, want := range []string{"ALARM", "ns/boiler", "HighHigh", "1m30s", "93 C is above highHigh 90"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
}
