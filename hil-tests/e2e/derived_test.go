//go:build integration

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const boiler = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: boiler, namespace: default}
spec:
  protocol: modbus
  properties:
    - {name: raw-temp, type: INT, accessMode: ReadOnly}
    - {name: temp, type: FLOAT, accessMode: ReadOnly, unit: "°C", minimum: "-20", maximum: "150"}
    - {name: boiling, type: BOOLEAN, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: boiler-1, namespace: default}
spec:
  deviceModelRef: {name: boiler}
  nodeName: $NODE
  protocol: {protocolName: modbus, configData: {ip: $MODBUS_IP, port: $MODBUS_PORT, slaveID: 3}}
  properties:
    - {name: raw-temp, collectCycle: 100, visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 60}}}
    - name: temp
      visitors: {protocolName: modbus, configData: {expr: "` + "`raw-temp`" + ` / 10", alarms: [{name: hot, high: 80, highHigh: 100, hysteresis: 5, onDelay: 300, severity: high, message: open the valve}]}}
    - {name: boiling, visitors: {protocolName: modbus, configData: {expr: "$EXPR"}}}
`

func alarmEvents(t *testing.T, device, reason string) (out []corev1.Event) {
	t.Helper()
	list, err := w.cluster.Core.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + device + ",reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// TestAlarm: what is calculated at the edge is seen in Kubernetes like a reading, and an alarm is an event and a condition that a restart of the
// agent neither repeats nor forgets.
func TestAlarm(t *testing.T) {
	const name = "boiler-1"
	set := func(v uint16) {
		t.Helper()
		if err := w.modbus.SetHolding(t.Context(), 3, 60, v); err != nil {
			t.Fatal(err)
		}
	}
	set(215)
	remove(t, "devices", name)
	remove(t, "devicemodels", "boiler")
	apply(t, boiler, "EXPR", "temp >= 100")
	shows := func(property, value, quality string) {
		t.Helper()
		stacktest.Eventually(t, 15*time.Second, property+" is "+value, func() (bool, string) {
			v := deviceState(t, name).Value(property)
			return v.Value == value && v.Quality == quality, fmt.Sprintf("%+v, %+v", v, condition(t, name, "Valid"))
		})
	}
	alarms := func(status, message string) {
		t.Helper()
		stacktest.Eventually(t, 15*time.Second, "Alarms is "+status, func() (bool, string) {
			c := condition(t, name, "Alarms")
			return string(c.Status) == status && c.Message == message, fmt.Sprintf("%+v", c)
		})
	}
	happened := func(reason string, want ...string) {
		t.Helper()
		stacktest.Eventually(t, 15*time.Second, fmt.Sprintf("%d events %s", len(want), reason), func() (bool, string) {
			all := ""
			events := alarmEvents(t, name, reason)
			for _, e := range events {
				all += e.Message + "\n"
			}
			for _, text := range want {
				if !strings.Contains(all, text) {
					return false, all
				}
			}
			return len(events) == len(want), all
		})
	}
	shows("temp", "21.5", "good")
	shows("boiling", "false", "good")
	alarms("False", "none of 1 alarms is active")

	set(850)
	shows("temp", "85", "good")
	alarms("True", "1 of 1 alarms active: hot (high, High)")
	const high = `alarm "hot" (high), property "temp": 85 °C is above high 80; open the valve`
	happened("AlarmRaised", high)
	if c := condition(t, name, "Alarm.hot"); c.Status != "True" || c.Reason != "High" {
		t.Errorf("the alarm's own condition: %+v", c)
	}

	time.Sleep(1500 * time.Millisecond) // what is kept lazily is on disk after the store's window
	if err := w.KillAgent(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	set(1200)
	shows("boiling", "true", "good")
	happened("AlarmRaised", high, `120 °C is above highHigh 100`)

	set(300)
	alarms("False", "none of 1 alarms is active")
	happened("AlarmCleared", `alarm "hot" (high), property "temp": property "temp" is normal; open the valve; it was HighHigh for`)
	if c := condition(t, name, "Alarm.hot"); c.Type != "" {
		t.Errorf("the alarm's own condition after it cleared: %+v", c)
	}
	set(2000)
	shows("temp", "200", "uncertain")

	apply(t, boiler, "EXPR", "tmep >= 100")
	stacktest.Eventually(t, 15*time.Second, "the wrong expression is named", func() (bool, string) {
		c := condition(t, name, "Valid")
		return c.Status == "False" && strings.Contains(c.Message, `configData.expr: "tmep >= 100": at character 1: the device has no property "tmep"; allowed: raw-temp, temp, boiling`), fmt.Sprintf("%+v", c)
	})
}
