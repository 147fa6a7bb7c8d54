package corev1

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tinylib/msgp/msgp"

	"github.com/skerry/skerry/firmware/wire/canon"
)

// golden reads testdata/name.json as the relay would send it.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := canon.FromJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func sameJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Fatalf("differs (-want +got):\n%s", d)
	}
}

// TestGoldenPod decodes a pod as an API server returns it, with fields that the agent does not know, and encodes what it
// knows again: it must be what testdata/pod.known.json says.
func TestGoldenPod(t *testing.T) {
	var pod Pod
	rest, err := pod.UnmarshalMsg(golden(t, "pod"))
	if err != nil || len(rest) != 0 {
		t.Fatalf("decode: %v, %d bytes left", err, len(rest))
	}
	if got := pod.Spec.Containers[0].LivenessProbe.HTTPGet.Port; got != (IntOrString{IsString: true, Str: "web"}) {
		t.Errorf("port = %+v", got)
	}
	if got := pod.Spec.Containers[0].ReadinessProbe.TCPSocket.Port; got.Int != 8080 {
		t.Errorf("port = %+v", got)
	}
	if got, err := pod.Spec.Containers[0].Resources.Limits["memory"].Value(); err != nil || got != 64<<20 {
		t.Errorf("memory = %d, %v", got, err)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !pod.Metadata.CreationTimestamp.Equal(want) {
		t.Errorf("created %v", pod.Metadata.CreationTimestamp)
	}
	body, err := Canonical(&pod)
	if err != nil {
		t.Fatal(err)
	}
	got, err := canon.ToJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/pod.known.json")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, got, want)
}

func TestSecretAndConfigMap(t *testing.T) {
	var s Secret
	if _, err := s.UnmarshalMsg(golden(t, "secret")); err != nil {
		t.Fatal(err)
	}
	if string(s.Data["password"]) != "p\x00w" || s.Type != "Opaque" {
		t.Errorf("secret = %+v", s)
	}
	var c ConfigMap
	if _, err := c.UnmarshalMsg(golden(t, "configmap")); err != nil {
		t.Fatal(err)
	}
	if c.Data["a"] != "1" || string(c.BinaryData["b"]) != "\xff\xfe" {
		t.Errorf("configmap = %+v", c)
	}
}

func TestReportIsCanonical(t *testing.T) {
	started := true
	report := PodReport{Status: &PodStatus{
		Phase: "Running", StartTime: NewTime(time.Unix(1e9, 5)), ObservedGeneration: 300,
		ContainerStatuses: []ContainerStatus{{
			Name: "c", RestartCount: 200, Started: &started,
			LastState: ContainerState{Terminated: &StateTerminated{ExitCode: 137}},
			State:     ContainerState{Terminated: &StateTerminated{ExitCode: -1}},
		}},
		Conditions: []Condition{{Type: "Ready", Status: "False"}},
	}}
	body, err := Canonical(&report)
	if err != nil {
		t.Fatal(err)
	}
	if err := canon.Check(body); err != nil {
		t.Fatalf("not canonical: %v", err)
	}
	var back PodReport
	if _, err := back.UnmarshalMsg(body); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(report, back); d != "" {
		t.Fatal(d)
	}
	node := NodeReport{Labels: StringMap{"b": "1", "a": "2"}, Status: NodeStatus{Capacity: ResourceList{"cpu": "2", "memory": NewQuantity(1 << 31)}}}
	if body, err = Canonical(&node); err != nil {
		t.Fatal(err)
	}
	if err := canon.Check(body); err != nil {
		t.Fatalf("not canonical: %v", err)
	}
}

// TestFieldOrder holds every struct to the order of its JSON names, on which deterministic encodings rest.
func TestFieldOrder(t *testing.T) {
	for _, m := range []msgp.Marshaler{
		&Pod{}, &Volume{ConfigMap: &ConfigMapVolume{}, Downward: &DownwardVolume{}, EmptyDir: &EmptyDirVolume{}, HostPath: &HostPathVolume{}, Projected: &ProjectedVolume{}, Secret: &SecretVolume{}},
		&Volume{CSI: &CSIVolume{ReadOnly: new(bool)}, Ephemeral: &EphemeralVolume{VolumeClaimTemplate: &ClaimTemplate{}}, Image: &ImageVolume{PullPolicy: "p", Reference: "r"}, PersistentVolumeClaim: &ClaimVolume{ReadOnly: true}},
		&Service{Spec: ServiceSpec{ClusterIP: "i", Ports: []ServicePort{{Name: "n", Protocol: "TCP"}}}}, &RuntimeClass{},
		&PersistentVolumeClaim{Metadata: ClaimMeta{OwnerReferences: []OwnerReference{{Controller: new(bool)}}}, Spec: PersistentVolumeClaimSpec{AccessModes: []string{"a"}, VolumeMode: "m", VolumeName: "n"}, Status: PersistentVolumeClaimStatus{Phase: "Bound"}},
		&PersistentVolume{Spec: PersistentVolumeSpec{AccessModes: []string{"a"}, CSI: &CSIPersistentVolume{VolumeHandle: "h"}, ClaimRef: &ClaimReference{Name: "n", Namespace: "n", UID: "u"}, HostPath: &HostPathVolume{},
			Local: &LocalVolume{FSType: "ext4"}, NodeAffinity: &VolumeNodeAffinity{}, VolumeMode: "m"}},
		&NodeReport{}, &PodReport{Status: &PodStatus{StartTime: NewTime(time.Now()), Conditions: []Condition{{Message: "m", Reason: "r", LastTransitionTime: NewTime(time.Now()), LastHeartbeatTime: NewTime(time.Now())}}}},
	} {
		b, err := m.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := canon.Check(b); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		in           Quantity
		value, milli int64
		bad          bool
	}{
		{in: "0"}, {in: "100m", value: 1, milli: 100}, {in: "1.5", value: 2, milli: 1500}, {in: ".5", value: 1, milli: 500},
		{in: "64Mi", value: 64 << 20, milli: (64 << 20) * 1000}, {in: "1Gi", value: 1 << 30, milli: (1 << 30) * 1000},
		{in: "2k", value: 2000, milli: 2000000}, {in: "1e3", value: 1000, milli: 1000000}, {in: "1E", value: 1e18, milli: 9223372036854775807},
		{in: "5.", value: 5, milli: 5000}, {in: "-1500m", value: -2, milli: -1500}, {in: "100n", value: 1, milli: 1},
		{in: "+3", value: 3, milli: 3000}, {in: "16Ei", value: 9223372036854775807, milli: 9223372036854775807},
		{in: "", bad: true}, {in: "1.2.3", bad: true}, {in: "64MB", bad: true}, {in: "Mi", bad: true}, {in: "1e99", bad: true},
		{in: "1 ", bad: true}, {in: "ten", bad: true}, {in: "1/2", bad: true}, {in: "0x10", bad: true}, {in: "-", bad: true}, {in: "1_0", bad: true},
	} {
		v, err := c.in.Value()
		m, err2 := c.in.Milli()
		if (err != nil) != c.bad || (err2 != nil) != c.bad || v != c.value || m != c.milli {
			t.Errorf("%q: value %d (%v), milli %d (%v)", c.in, v, err, m, err2)
		}
	}
}

func TestQuantityNumbers(t *testing.T) {
	for want, body := range map[Quantity][]byte{
		"2": msgp.AppendInt64(nil, 2), "-3": msgp.AppendInt64(nil, -3), "0.5": msgp.AppendFloat64(nil, 0.5), "300": msgp.AppendUint64(nil, 300),
	} {
		var q Quantity
		if _, err := q.UnmarshalMsg(body); err != nil || q != want {
			t.Errorf("%q: %q, %v", want, q, err)
		}
	}
}

func TestBadInput(t *testing.T) {
	huge := append([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, 0xa1)
	var m StringMap
	if _, err := m.UnmarshalMsg(huge); !errors.Is(err, msgp.ErrLimitExceeded) {
		t.Errorf("huge map: %v", err)
	}
	var s PodSpec
	body := append([]byte{0x81, 0xaa}, "containers"...)
	body = append(body, 0xdd, 0xff, 0xff, 0xff, 0xff)
	if _, err := s.UnmarshalMsg(body); err == nil {
		t.Error("huge list accepted")
	}
	var tm Time
	if _, err := tm.UnmarshalMsg(msgp.AppendString(nil, "yesterday")); err == nil {
		t.Error("bad time accepted")
	}
	var b64 Base64
	if _, err := b64.UnmarshalMsg(msgp.AppendString(nil, "%%%")); err == nil {
		t.Error("bad base64 accepted")
	}
	var p IntOrString
	if _, err := p.UnmarshalMsg(msgp.AppendFloat64(nil, 1.5)); err == nil {
		t.Error("fractional port accepted")
	}
}

// FuzzPod: whatever decodes must encode, and decode to the same value again.
func FuzzPod(f *testing.F) {
	f.Add(golden(f, "pod"))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Pod
		if _, err := p.UnmarshalMsg(b); err != nil {
			return
		}
		out, err := p.MarshalMsg(nil)
		if err != nil {
			t.Fatal(err)
		}
		var q Pod
		if _, err := q.UnmarshalMsg(out); err != nil {
			t.Fatal(err)
		}
		again, err := q.MarshalMsg(nil)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%x\n%x %v", out, again, err)
		}
	})
}

// FuzzStatus does the same for what the agent stores and reads back itself.
func FuzzStatus(f *testing.F) {
	seed, err := (&PodReport{Status: &PodStatus{Phase: "Failed", StartTime: NewTime(time.Unix(1, 0))}}).MarshalMsg(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var p PodReport
		if _, err := p.UnmarshalMsg(b); err != nil {
			return
		}
		if _, err := p.MarshalMsg(nil); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReferences holds the decoders of what pods refer to to the same.
func FuzzReferences(f *testing.F) {
	for _, doc := range []msgp.Marshaler{&Service{Spec: ServiceSpec{Ports: []ServicePort{{Port: 80}}}}, &PersistentVolume{Spec: PersistentVolumeSpec{Local: &LocalVolume{Path: "/x"}}}, &PersistentVolumeClaim{}, &RuntimeClass{}} {
		b, err := doc.MarshalMsg(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, doc := range []interface {
			msgp.Marshaler
			msgp.Unmarshaler
		}{&Service{}, &RuntimeClass{}, &PersistentVolumeClaim{}, &PersistentVolume{}} {
			if _, err := doc.UnmarshalMsg(b); err != nil {
				continue
			}
			if _, err := doc.MarshalMsg(nil); err != nil {
				t.Fatalf("%T: %v", doc, err)
			}
		}
	})
}
