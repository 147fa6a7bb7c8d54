package kube

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
	"github.com/skerry/skerry/firmware/wire/devicev1"
)

// TestReportsOfTheAgentsOwnTypes: what the agent's generated encoders write is understood and survives the way to the API's
// types.
func TestReportsOfTheAgentsOwnTypes(t *testing.T) {
	at := corev1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC)}
	pod := corev1.PodReport{Status: &corev1.PodStatus{
		Phase: "Running", ObservedGeneration: 70000, StartTime: &at,
		Conditions: []corev1.Condition{{Type: "Ready", Status: "False", LastTransitionTime: &at}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "web", RestartCount: 200,
			LastState: corev1.ContainerState{Terminated: &corev1.StateTerminated{ExitCode: 137, FinishedAt: &at}},
			State:     corev1.ContainerState{Terminated: &corev1.StateTerminated{ExitCode: -1}},
		}},
	}}
	b, err := pod.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := decodeReport(b)
	if err != nil {
		t.Fatal(err)
	}
	_, to, err := podStatus(map[string]any{}, child(doc, "status"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if field(to, "containerStatuses", 0, "lastState", "terminated", "exitCode") != int64(137) ||
		field(to, "containerStatuses", 0, "restartCount") != int64(200) || field(to, "startTime") != "2026-01-01T00:00:00Z" {
		t.Errorf("pod status is %v", to)
	}
	// It was never scheduled, and nobody else says that it is bound.
	if field(to, "conditions", 1, "type") != "PodScheduled" || field(to, "conditions", 1, "status") != "True" || field(to, "conditions", 1, "lastTransitionTime") != "2026-01-01T00:00:00Z" {
		t.Errorf("conditions are %v", field(to, "conditions"))
	}

	device := devicev1.Report{
		ObservedGeneration: 300,
		Conditions:         []devicev1.Condition{{Type: "Ready", Status: "True", Reason: "Polling", LastTransitionTime: "2026-01-01T00:00:00Z", ObservedGeneration: 300}},
		DeviceStatus: devicev1.DeviceStatus{State: "online", Twins: []devicev1.Twin{
			{PropertyName: "speed", Reported: &devicev1.TwinProperty{Value: "1", Metadata: devicev1.TwinMetadata{Quality: "good"}}}}},
	}
	if b, err = device.MarshalMsg(nil); err != nil {
		t.Fatal(err)
	}
	if doc, err = decodeReport(b); err != nil {
		t.Fatal(err)
	}
	if _, to, err = deviceState(map[string]any{}, doc); err != nil || field(to, "observedGeneration") != int64(300) || field(to, "conditions", 0, "reason") != "Polling" {
		t.Errorf("device state is %v, %v", to, err)
	}
	if status, err := deviceStatus(child(doc, "deviceStatus")); err != nil || field(status, "twins", 0, "reported", "metadata", "quality") != "good" {
		t.Errorf("device status is %v, %v", status, err)
	}

	node := corev1.NodeReport{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{Architecture: "arm"},
		Conditions: []corev1.Condition{{Type: "Ready", Status: "True", LastHeartbeatTime: &at}}}}
	if b, err = node.MarshalMsg(nil); err != nil {
		t.Fatal(err)
	}
	if doc, err = decodeReport(b); err != nil {
		t.Fatal(err)
	}
	if _, to, err = nodeStatus(map[string]any{}, child(doc, "status"), time.Unix(0, 0)); err != nil || field(to, "nodeInfo", "architecture") != "arm" {
		t.Errorf("node status is %v, %v", to, err)
	}
}

func TestDecodeReportRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":              {},
		"list":               {0x90},
		"truncated":          {0x81, 0xa1, 'a'},
		"trailing":           {0x80, 0x01},
		"map of 4 G":         {0xdf, 0xff, 0xff, 0xff, 0xff},
		"list of 4 G":        {0x81, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff},
		"string of 4 G":      {0x81, 0xa1, 'a', 0xdb, 0xff, 0xff, 0xff, 0xff},
		"binary":             {0x81, 0xa1, 'a', 0xc4, 0x00},
		"key is a number":    {0x81, 0x01, 0x01},
		"a million nestings": bytes.Repeat([]byte{0x91}, 1e6),
	} {
		if doc, err := decodeReport(b); err == nil {
			t.Errorf("%s: decoded as %v", name, doc)
		}
	}
}

func FuzzDecodeReport(f *testing.F) {
	for _, s := range []string{readyNode, runningPod, `{"a":[1,-1,1.5,null,true,18446744073709551615]}`} {
		b, err := canon.FromJSON([]byte(s))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := decodeReport(b)
		if strict, strictErr := canon.ToValue(b); strictErr == nil {
			if _, isMap := strict.(map[string]any); isMap && (err != nil || !reflect.DeepEqual(doc, strict)) {
				x, _ := json.Marshal(strict)
				t.Errorf("%s is decoded as %v, %v", x, doc, err)
			}
		}
	})
}

// TestTimesOfAWrongClock: times that cannot be true are the relay's, once; all others stay what they were first.
func TestTimesOfAWrongClock(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	status := func(start, ready string) map[string]any {
		return map[string]any{"phase": "Running", "startTime": start, "conditions": []any{map[string]any{"type": "Ready", "status": "True", "lastTransitionTime": ready}}}
	}
	const right, relay = "2026-05-04T03:00:00Z", "2026-05-04T03:02:01Z"
	for name, c := range map[string]struct{ current, reported map[string]any }{
		"a year ahead":                {map[string]any{}, status("2027-05-04T03:00:00Z", "2027-05-04T03:00:10Z")},
		"1970":                        {map[string]any{}, status("1970-01-01T00:00:10Z", "1970-01-01T00:00:20Z")},
		"written by an older relay":   {status("2027-05-04T03:00:00Z", "2027-05-04T03:00:10Z"), status(relay, relay)},
		"and by an older agent, too":  {status("2027-05-04T03:00:00Z", "2027-05-04T03:00:10Z"), status("2027-05-04T03:00:00Z", "2027-05-04T03:00:10Z")},
		"not again":                   {status(relay, relay), status("2028-05-04T03:00:00Z", "2028-05-04T03:00:10Z")},
		"not for what was noted once": {status(relay, relay), status(right, right)},
	} {
		_, to, err := podStatus(c.current, c.reported, now)
		if err != nil {
			t.Fatal(err)
		}
		if field(to, "startTime") != relay || field(to, "conditions", 0, "lastTransitionTime") != relay {
			t.Errorf("%s: %v", name, to)
		}
	}
}
