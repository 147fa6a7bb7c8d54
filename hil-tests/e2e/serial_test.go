//go:build integration

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/serialpeer"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const scaleManifest = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: scale, namespace: default}
spec:
  protocol: serial
  properties:
    - {name: weight, type: FLOAT, accessMode: ReadOnly, unit: kg}
    - {name: stable, type: BOOLEAN, accessMode: ReadOnly}
    - {name: tare, type: FLOAT, accessMode: ReadWrite, minimum: "-50", maximum: "50", unit: kg}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: scale-1, namespace: default}
spec:
  deviceModelRef: {name: scale}
  nodeName: $NODE
  protocol: {protocolName: serial, configData: {serialPort: $PORT, baudRate: $BAUD, delimiter: '\r\n', request: 'P\r\n', timeout: 300}}
  properties:
    - {name: weight, collectCycle: 200, reportToCloud: true, visitors: {protocolName: serial, configData: {pattern: 'GS,(?P<value>[-+ ]*[0-9.]+) kg'}}}
    - {name: stable, collectCycle: 200, reportToCloud: true, visitors: {protocolName: serial, configData: {column: 1, trueText: ST, falseText: US}}}
    - name: tare
      collectCycle: 200
      reportToCloud: true
      desired: {value: "$TARE"}
      visitors: {protocolName: serial, configData: {request: 'T?\r\n', pattern: 'T=(.*)', write: 'T={value:%.1f}\r\n', ack: '^OK$'}}
`

// TestSerialDevice: a scale of pyserial behind socat, from the manifest to its values in Kubernetes, and through an unplugged port.
func TestSerialDevice(t *testing.T) {
	dir, err := os.MkdirTemp("", "serial")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	line, err := serialpeer.StartLine(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	scale, err := serialpeer.StartDevice(t.Context(), line, "scale")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = scale.Kill()
		_ = line.Unplug()
	})
	remove(t, "device/scale-1", "devicemodel/scale")
	apply(t, scaleManifest, "PORT", line.Port, "BAUD", "9600", "TARE", "2.5")
	isGood := func(tare string) {
		t.Helper()
		stacktest.Eventually(t, 20*time.Second, "good values of the scale", func() (bool, string) {
			d := deviceState(t, "scale-1")
			weight, stable, set := d.Value("weight"), d.Value("stable"), d.Value("tare")
			ok := d.State == "online" && weight.Quality == "good" && weight.Unit == "kg" && stable.Value == "true" && set.Value == tare && set.Desired == tare && set.Outcome == "verified"
			return ok, fmt.Sprintf("%+v, %+v", d, condition(t, "scale-1", "Ready"))
		})
	}
	isGood("2.5")
	apply(t, scaleManifest, "PORT", line.Port, "BAUD", "9600", "TARE", "-7")
	isGood("-7")

	_ = scale.Kill()
	if err := line.Unplug(); err != nil {
		t.Error(err)
	}
	stacktest.Eventually(t, 20*time.Second, "the unplugged port is named", func() (bool, string) {
		d, c := deviceState(t, "scale-1"), condition(t, "scale-1", "Ready")
		return d.State == "offline" && c.Status == metav1.ConditionFalse && c.Reason == "Unreachable" && strings.Contains(c.Message, "plugged in?") && d.Value("weight").Quality == "bad", fmt.Sprintf("%+v, %+v", d, c)
	})
	if err := line.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	if scale, err = serialpeer.StartDevice(t.Context(), line, "scale"); err != nil {
		t.Fatal(err)
	}
	stacktest.Eventually(t, 20*time.Second, "the scale is back", func() (bool, string) {
		d := deviceState(t, "scale-1")
		return d.State == "online" && d.Value("weight").Quality == "good", fmt.Sprintf("%+v, %+v", d, condition(t, "scale-1", "Ready"))
	})

	apply(t, scaleManifest, "PORT", line.Port, "BAUD", "96000000", "TARE", "-7")
	stacktest.Eventually(t, 20*time.Second, "the wrong field is named", func() (bool, string) {
		c := condition(t, "scale-1", "Valid")
		return c.Status == metav1.ConditionFalse && c.Reason == "InvalidConfig" && strings.Contains(c.Message, "configData.baudRate"), fmt.Sprintf("%+v", c)
	})
}
