//go:build integration

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// writeAtEdge is `skerryctl device write` on the gateway.
func writeAtEdge(t *testing.T, name, value string) string {
	t.Helper()
	out, err := w.Skerryd(t.Context(), "device", "-config", w.AgentConfig(), "write", name, "setpoint="+value)
	if err != nil {
		out += " " + err.Error()
	}
	return out
}

// origin says who wrote the value that counts.
func origin(t *testing.T, name string) string {
	t.Helper()
	u, err := w.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	twins, _, _ := unstructured.NestedSlice(u.Object, "status", "twins")
	for _, item := range twins {
		m, _ := item.(map[string]any)
		if m["propertyName"] == "setpoint" {
			s, _, _ := unstructured.NestedString(m, "observedDesired", "metadata", "origin")
			return s
		}
	}
	return ""
}

// applied lists the values that the device was given, as the events say.
func applied(t *testing.T, name string) string {
	t.Helper()
	var out []string
	for _, e := range deviceEvents(t, name, "DesiredValueApplied") {
		out = append(out, e.Message)
	}
	return strings.Join(out, "; ")
}

// TestTwin holds who wins: the cloud, the edge, and what became of it while the device or the gateway was away. Its steps follow each other.
func TestTwin(t *testing.T) {
	const name = "twin-1"
	remove(t, "device/"+name, "devicemodel/pump")
	apply(t, pumpModel)
	apply(t, pumpDevice, "NAME", name)
	valuesGood(t, name)
	setDesired(t, name, "40")
	t.Run("an edge write stands", func(t *testing.T) {
		if out := writeAtEdge(t, name, "51"); !strings.Contains(out, "51") {
			t.Errorf("skerryd device write: %s", out)
		}
		desiredVerified(t, name, "51")
		if got := origin(t, name); got != "edge" {
			t.Errorf("origin %q", got)
		}
		// Another generation that wants the same as before does not override it.
		kubectl(t, "patch", "device", name, "--type=json", "-p", `[{"op":"replace","path":"/spec/properties/0/collectCycle","value":300}]`)
		never(t, 3*time.Second, "the edge's value is gone", func() (bool, string) {
			v := deviceState(t, name).Value("setpoint")
			return v.Value != "51", fmt.Sprintf("%+v", v)
		})
	})
	t.Run("the cloud's newer value wins", func(t *testing.T) {
		setDesired(t, name, "60")
		if got := origin(t, name); got != "" {
			t.Errorf("origin %q", got)
		}
	})
	t.Run("writes while the device is away", func(t *testing.T) {
		if err := w.modbus.Kill(); err != nil {
			t.Fatal(err)
		}
		stacktest.Eventually(t, 20*time.Second, "offline", func() (bool, string) {
			d := deviceState(t, name)
			return d.State == "offline", fmt.Sprintf("%+v", d)
		})
		patchDesired(t, name, "61")
		stacktest.Eventually(t, 10*time.Second, "61 is pending", func() (bool, string) {
			v := deviceState(t, name).Value("setpoint")
			return v.Desired == "61" && v.Outcome == "pending", fmt.Sprintf("%+v", v)
		})
		if out := writeAtEdge(t, name, "62"); !strings.Contains(out, "pending") && !strings.Contains(out, "recorded") {
			t.Errorf("skerryd device write: %s", out)
		}
		stacktest.Eventually(t, 10*time.Second, "62 is pending", func() (bool, string) {
			v := deviceState(t, name).Value("setpoint")
			return v.Desired == "62" && v.Outcome == "pending", fmt.Sprintf("%+v", v)
		})
		patchDesired(t, name, "63")
		patchDesired(t, name, "64")
		if err := w.modbus.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		valuesGood(t, name)
		desiredVerified(t, name, "64")
		if got := applied(t, name); strings.Contains(got, `"61"`) || strings.Contains(got, `"62"`) || strings.Contains(got, `"63"`) {
			t.Errorf("an older value was written: %s", got)
		}
	})
	t.Run("moved away and back", func(t *testing.T) {
		if out := writeAtEdge(t, name, "70"); !strings.Contains(out, "70") {
			t.Errorf("skerryd device write: %s", out)
		}
		desiredVerified(t, name, "70")
		kubectl(t, "patch", "device", name, "--type=merge", "-p", `{"spec":{"nodeName":"gw-elsewhere"}}`)
		notPolled(t)
		if out := writeAtEdge(t, name, "71"); !strings.Contains(out, name) || strings.Contains(out, "verified") {
			t.Errorf("a write at the gateway that it was moved away from: %s", out)
		}
		patchDesired(t, name, "72")
		kubectl(t, "patch", "device", name, "--type=merge", "-p", `{"spec":{"nodeName":"`+node+`"}}`)
		polled(t)
		desiredVerified(t, name, "72")
		if got := origin(t, name); got != "" {
			t.Errorf("origin %q", got)
		}
	})
}
