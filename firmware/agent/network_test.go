package agent

import (
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// TestWritesTo: which pods bring a CNI. flannel's is the model; the others differ from it in one thing each.
func TestWritesTo(t *testing.T) {
	const flannel = `{"metadata":{"name":"p","namespace":"n","uid":"u"},
		"spec":{"restartPolicy":"Always","hostNetwork":true,"volumes":[{"name":"run","hostPath":{"path":"/run/flannel"}},{"name":"cni","hostPath":{"path":"/etc/cni/net.d"}}],
		"initContainers":[{"name":"i","image":"i","volumeMounts":[{"name":"cni","mountPath":"/etc/cni/net.d"}]}],
		"containers":[{"name":"c","image":"i","volumeMounts":[{"name":"run","mountPath":"/run/flannel"}]}]}}`
	for _, tc := range []struct {
		name, old, new string
		want           bool
	}{
		{name: "flannel", want: true},
		{"the folder above", `"/etc/cni/net.d"}}]`, `"/etc/cni/"}}]`, true},
		{"another folder", `"/etc/cni/net.d"}}]`, `"/etc/cni/net"}}]`, false},
		{"the whole file system", `"/etc/cni/net.d"}}]`, `"/"}}]`, false},
		{"read only", `"mountPath":"/etc/cni/net.d"`, `"mountPath":"/etc/cni/net.d","readOnly":true`, false},
		{"in a network itself", `"hostNetwork":true`, `"hostNetwork":false`, false},
		{"of a Job", `"Always"`, `"OnFailure"`, false},
		{"that ends", `"uid":"u"`, `"uid":"u","deletionTimestamp":"2026-01-01T00:00:00Z"`, false},
	} {
		text := strings.Replace(flannel, tc.old, tc.new, 1)
		if tc.old != "" && text == flannel {
			t.Fatalf("%s: nothing to replace", tc.name)
		}
		body, err := canon.FromJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var p corev1.Pod
		if _, err := p.UnmarshalMsg(body); err != nil {
			t.Fatal(err)
		}
		if got := writesTo(&p, "/etc/cni/net.d"); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
