package pods

import (
	"fmt"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// TestFingerprintsTellPairsApart: two containers of a pod that change in the same way at the same time are noticed, whatever their ids.
func TestFingerprintsTellPairsApart(t *testing.T) {
	of := func(a, b string, state cri.ContainerState) uint64 {
		labels := map[string]string{labelPodUID: "u1"}
		return fingerprints(nil, []cri.Container{{ID: a, State: state, Labels: labels}, {ID: b, State: state, Labels: labels}})["u1"]
	}
	for i := range 100 {
		for j := range i {
			a, b := fmt.Sprintf("ctr%d", i), fmt.Sprintf("ctr%d", j)
			states := map[uint64]cri.ContainerState{}
			for _, s := range []cri.ContainerState{cri.ContainerCreated, cri.ContainerRunning, cri.ContainerExited, cri.ContainerUnknown} {
				print := of(a, b, s)
				if other, ok := states[print]; ok {
					t.Fatalf("%s and %s have the same fingerprint in states %d and %d", a, b, other, s)
				}
				states[print] = s
			}
			if of(a, b, cri.ContainerRunning) != of(b, a, cri.ContainerRunning) {
				t.Fatal("the order of the list matters")
			}
		}
	}
}
