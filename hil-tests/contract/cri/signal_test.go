package cri

import (
	"strings"
	"testing"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/skerry/skerry/firmware/cri"
)

// TestSignals: CRI's numbers have the names that Kubernetes' API has for them, and no others.
func TestSignals(t *testing.T) {
	for number, name := range v1.Signal_name {
		want := strings.TrimPrefix(name, "SIGNAL_")
		want = strings.Replace(strings.Replace(want, "PLUS", "+", 1), "MINUS", "-", 1)
		if number == 0 {
			want = ""
		}
		if got := cri.Signal(number).String(); got != want || cri.SignalOf(want) != cri.Signal(number) {
			t.Errorf("signal %d is %q, CRI's %s; %q is %d", number, got, name, want, cri.SignalOf(want))
		}
	}
	for _, odd := range []cri.Signal{-1, cri.Signal(len(v1.Signal_name))} {
		if odd.String() != "" {
			t.Errorf("%d is %s", odd, odd)
		}
	}
}
