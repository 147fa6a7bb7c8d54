//go:build integration

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const pumpModel = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: pump, namespace: default}
spec:
  protocol: modbus
  properties:
    - {name: revolutions, type: INT, accessMode: ReadOnly, unit: rpm}
    - {name: temperature, type: FLOAT, accessMode: ReadOnly, unit: "°C"}
    - {name: running, type: BOOLEAN, accessMode: ReadOnly}
    - {name: setpoint, type: INT, accessMode: ReadWrite, minimum: "0", maximum: "100", unit: "%"}
`

const pumpDevice = `
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: $NAME, namespace: default}
spec:
  deviceModelRef: {name: pump}
  nodeName: $NODE
  protocol: {protocolName: modbus, configData: {ip: $MODBUS_IP, port: $MODBUS_PORT, slaveID: 1}}
  properties:
    - {name: revolutions, collectCycle: 200, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: InputRegister, offset: 0, limit: 1}}}
    - {name: temperature, collectCycle: 200, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: InputRegister, offset: 2, type: float32}}}
    - {name: running, collectCycle: 200, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: DiscreteInputRegister, offset: 0, limit: 1}}}
    - {name: setpoint, collectCycle: 200, reportToCloud: true, visitors: {protocolName: modbus, configData: {register: HoldingRegister, offset: 0, limit: 1}}}
`

func deviceState(t *testing.T, name string) stack.DeviceState {
	t.Helper()
	d, err := w.cluster.DeviceState(t.Context(), ns, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// condition returns a condition of a device, the zero one if it is not there.
func condition(t *testing.T, device, kind string) metav1.Condition {
	t.Helper()
	all, err := w.cluster.DeviceConditions(t.Context(), ns, device)
	if err != nil {
		t.Fatal(err)
	}
	return all[kind]
}

func valuesGood(t *testing.T, name string) {
	t.Helper()
	stacktest.Eventually(t, 15*time.Second, "4 good values of "+name, func() (bool, string) {
		d := deviceState(t, name)
		good := 0
		for _, v := range d.Values {
			if v.Quality == "good" && v.Value != "" && time.Since(v.At) < 30*time.Second {
				good++
			}
		}
		return good == 4 && d.State == "online", fmt.Sprintf("%+v, %+v", d, condition(t, name, "Ready"))
	})
}

func patchDesired(t *testing.T, name, value string) {
	t.Helper()
	kubectl(t, "patch", "device", name, "--type=json", "-p", fmt.Sprintf(
		`[{"op":"test","path":"/spec/properties/3/name","value":"setpoint"},{"op":"add","path":"/spec/properties/3/desired","value":{"value":%q}}]`, value))
}

func desiredVerified(t *testing.T, name, value string) {
	t.Helper()
	stacktest.Eventually(t, 10*time.Second, "setpoint "+value+" of "+name+" is verified", func() (bool, string) {
		v := deviceState(t, name).Value("setpoint")
		return v.Desired == value && v.Outcome == "verified" && v.Value == value, fmt.Sprintf("%+v", v)
	})
	regs, err := w.modbus.Holding(t.Context(), 1, 0, 1)
	if err != nil || fmt.Sprint(regs[0]) != value {
		t.Errorf("Kubernetes says that %s is verified, the device's register holds %v, %v", value, regs, err)
	}
}

func setDesired(t *testing.T, name, value string) {
	t.Helper()
	patchDesired(t, name, value)
	desiredVerified(t, name, value)
}

func TestDevice(t *testing.T) {
	remove(t, "device/pump-1", "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", "pump-1")
	valuesGood(t, "pump-1")
	t.Run("values follow the device", func(t *testing.T) {
		first := deviceState(t, "pump-1").Value("revolutions").Value
		stacktest.Eventually(t, 10*time.Second, "revolutions change", func() (bool, string) {
			v := deviceState(t, "pump-1").Value("revolutions")
			return v.Value != first && v.Unit == "rpm", fmt.Sprintf("%+v", v)
		})
	})
	t.Run("conditions", func(t *testing.T) {
		for _, kind := range []string{"Ready", "Valid"} {
			if c := condition(t, "pump-1", kind); c.Status != metav1.ConditionTrue || c.Reason == "" || c.Message == "" {
				t.Errorf("condition %s: %+v", kind, c)
			}
		}
		contains(t, "kubectl get devices", kubectl(t, "get", "devices"), "pump-1", node, "True")
		contains(t, "kubectl get devicestatuses", kubectl(t, "get", "devicestatuses"), "pump-1", "online")
	})
	t.Run("desired value", func(t *testing.T) { setDesired(t, "pump-1", "42") })
	t.Run("desired value out of range", func(t *testing.T) {
		patchDesired(t, "pump-1", "101")
		stacktest.Eventually(t, 10*time.Second, "it is refused in a condition", func() (bool, string) {
			c := condition(t, "pump-1", "Valid")
			return c.Status == metav1.ConditionFalse && c.Reason == "InvalidDesired", fmt.Sprintf("%+v", c)
		})
		contains(t, "condition", condition(t, "pump-1", "Valid").Message, "spec.properties[setpoint].desired.value", `"101"`, "maximum 100")
		setDesired(t, "pump-1", "43")
	})
	t.Run("device away and back", func(t *testing.T) {
		if err := w.modbus.Kill(); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 20*time.Second, "offline", func() (bool, string) {
			d := deviceState(t, "pump-1")
			return d.State == "offline", fmt.Sprintf("%+v", d)
		})
		stacktest.Eventually(t, 10*time.Second, "the Ready condition says so", func() (bool, string) { // it is another object: a write of its own
			c := condition(t, "pump-1", "Ready")
			return c.Reason == "Unreachable" && strings.Contains(c.Message, w.modbus.Addr()), c.Reason + ": " + c.Message
		})
		if err := w.modbus.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		valuesGood(t, "pump-1")
		// The device lost its registers. What was written once is not written again, and the reported value says so: whether to
		// override what a device has of its own is the operator's decision.
		v := deviceState(t, "pump-1").Value("setpoint")
		if v.Value != "0" || v.Desired != "43" {
			t.Errorf("setpoint %+v", v)
		}
		setDesired(t, "pump-1", "44")
	})
	t.Run("moved away", func(t *testing.T) {
		kubectl(t, "patch", "device", "pump-1", "--type=merge", "-p", `{"spec":{"nodeName":"gw-elsewhere"}}`)
		notPolled(t)
		kubectl(t, "patch", "device", "pump-1", "--type=merge", "-p", `{"spec":{"nodeName":"`+node+`"}}`)
		polled(t)
	})
	t.Run("deleted", func(t *testing.T) {
		kubectl(t, "delete", "device", "pump-1")
		notPolled(t)
		// Kubernetes' garbage collector looks for new kinds every 30 s: right after the CRDs were made it does not know DeviceStatus yet.
		stacktest.Eventually(t, 75*time.Second, "DeviceStatus goes with the Device", func() (bool, string) {
			_, err := w.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(ns).Get(t.Context(), "pump-1", metav1.GetOptions{})
			return apierrors.IsNotFound(err), fmt.Sprint(err)
		})
		never(t, 2*time.Second, "the DeviceStatus came back", func() (bool, string) {
			d := deviceState(t, "pump-1")
			return d.Name != "", fmt.Sprintf("%+v", d)
		})
	})
}

// notPolled waits until the device's count of requests stands still for a second.
func notPolled(t *testing.T) {
	t.Helper()
	last, since := int64(-1), time.Now()
	stacktest.Eventually(t, 10*time.Second, "the device is not polled", func() (bool, string) {
		now, err := w.modbus.Requests(t.Context())
		if err != nil {
			return false, err.Error()
		}
		// This question counts as none: it goes to another unit.
		if now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second, fmt.Sprint(now)
	})
}

// TestBadDevice holds what a Device says that cannot work: the field, its value, and what is allowed; once, and mended by a new
// manifest alone.
func TestBadDevice(t *testing.T) {
	remove(t, "devicemodel", "pump")
	apply(t, pumpModel)
	const setpoint = "{register: HoldingRegister, offset: 0, limit: 1}"
	for _, c := range []struct {
		name     string
		old, new string   // in the manifest
		reason   string   // of the Valid condition
		want     []string // in its message
		good     int      // values that are read all the same
	}{
		{"register", setpoint, "{register: HoldingRegisters9, offset: 0, limit: 1}", "InvalidVisitor",
			[]string{"spec.properties[setpoint].visitors.configData.register", `"HoldingRegisters9"`, "allowed", "HoldingRegister", "InputRegister"}, 3},
		{"offset", setpoint, "{register: HoldingRegister, offset: 70000, limit: 1}", "InvalidVisitor",
			[]string{"spec.properties[setpoint].visitors.configData.offset", "70000", "65535"}, 3},
		{"beyond-the-table", setpoint, "{register: HoldingRegister, offset: 65535, limit: 2}", "InvalidVisitor",
			[]string{"spec.properties[setpoint].visitors.configData", "65535", "0 to 65534"}, 3},
		{"not-in-model", "{name: setpoint,", "{name: set-point,", "UnknownProperty",
			[]string{"spec.properties[set-point]", `DeviceModel "pump"`, "allowed", "revolutions", "setpoint"}, 3},
		{"no-model", "deviceModelRef: {name: pump}", "deviceModelRef: {name: pumps}", "ModelNotFound",
			[]string{"spec.deviceModelRef.name", `"pumps"`, `namespace "default"`, "create it, or correct the name"}, 0},
		{"protocol", "protocol: {protocolName: modbus,", "protocol: {protocolName: profinet,", "UnknownProtocol",
			[]string{"spec.protocol.protocolName", `"profinet"`, "allowed", "modbus"}, 0},
		{"key", "slaveID: 1}", "slaveID: 1, speed: 9600}", "InvalidConfig", []string{"spec.protocol.configData", "speed", "allowed"}, 0},
		{"slave", "slaveID: 1}", "slaveID: 300}", "InvalidConfig", []string{"spec.protocol.configData.slaveID", "300", "allowed"}, 0},
		{"read-only", "{name: revolutions,", "{name: revolutions, desired: {value: '1'},", "InvalidDesired",
			[]string{"spec.properties[revolutions].desired.value", "ReadOnly", "remove"}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			name := "bad-" + c.name
			remove(t, "device", name)
			if !strings.Contains(pumpDevice, c.old) {
				t.Fatalf("the manifest has no %q", c.old)
			}
			pid, mark := w.Agent.PID(), markLog("skerryd")
			apply(t, strings.Replace(pumpDevice, c.old, c.new, 1), "NAME", name)
			var got metav1.Condition
			stacktest.Eventually(t, 15*time.Second, "the condition says what is wrong", func() (bool, string) {
				got = condition(t, name, "Valid")
				return got.Status == metav1.ConditionFalse, fmt.Sprintf("%+v", got)
			})
			if got.Reason != c.reason {
				t.Errorf("reason %s, want %s", got.Reason, c.reason)
			}
			contains(t, "condition", got.Message, c.want...)
			if strings.Contains(got.Message, "\n") || strings.Count(got.Message, ";") > 1 {
				t.Errorf("not one message: %s", got.Message)
			}
			stacktest.Eventually(t, 10*time.Second, fmt.Sprintf("%d good values all the same", c.good), func() (bool, string) {
				n := 0
				for _, v := range deviceState(t, name).Values {
					if v.Quality == "good" {
						n++
					}
				}
				return n == c.good, fmt.Sprintf("%+v, Ready: %+v", deviceState(t, name), condition(t, name, "Ready"))
			})
			stacktest.Eventually(t, 10*time.Second, "one event says the same", func() (bool, string) {
				n := deviceEvents(t, name, c.reason)
				return len(n) == 1, fmt.Sprintf("%+v", n)
			})
			time.Sleep(2 * time.Second)
			if n := deviceEvents(t, name, c.reason); len(n) != 1 {
				t.Errorf("%d events: %+v", len(n), n)
			}
			if lines := mark.with(t, name); len(lines) > 2 {
				t.Errorf("%d log lines about it:\n%s", len(lines), strings.Join(lines, "\n"))
			}
			apply(t, pumpDevice, "NAME", name)
			if c.name == "not-in-model" || c.name == "read-only" { // apply merges lists by name, and keeps what it did not set
				kubectl(t, "delete", "device", name)
				apply(t, pumpDevice, "NAME", name)
			}
			stacktest.Eventually(t, 10*time.Second, "the condition says that it is mended", func() (bool, string) {
				got = condition(t, name, "Valid")
				return got.Status == metav1.ConditionTrue, fmt.Sprintf("%+v", got)
			})
			valuesGood(t, name)
			noCrash(t, pid)
		})
	}
}

func deviceEvents(t *testing.T, name, reason string) []corev1.Event {
	t.Helper()
	l, err := w.cluster.Core.CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=Device,involvedObject.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	var out []corev1.Event
	for _, e := range l.Items {
		if reason == "" || e.Reason == reason {
			out = append(out, e)
		}
	}
	return out
}

// TestRefusedByTheAPI holds what one manifest shows alone: kubectl says it, and nothing is stored.
func TestRefusedByTheAPI(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		want           []string
	}{
		{"property twice", "{name: temperature,", "{name: revolutions,", []string{"spec.properties", "Duplicate value", "revolutions"}},
		{"negative cycle", "collectCycle: 200", "collectCycle: -1", []string{"collectCycle", "-1", "greater than or equal to 0"}},
		{"no property name", "{name: setpoint,", "{", []string{"spec.properties", "name"}},
		{"misspelt field", "collectCycle: 200", "colectCycle: 200", []string{"unknown field", "colectCycle"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.Kube.Apply(t.Context(), expand(strings.Replace(pumpDevice, c.old, c.new, 1), "NAME", "refused"), "--validate=strict")
			if err == nil {
				t.Fatal("accepted")
			}
			contains(t, "kubectl", err.Error(), c.want...)
		})
	}
}
