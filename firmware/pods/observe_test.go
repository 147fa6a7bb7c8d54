package pods

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// lateOOM tells of the reason only when it was asked often enough, as containerd 1.6 does when the exit comes before the event.
type lateOOM struct {
	Runtime
	after, asks int
}

func (r *lateOOM) ContainerStatus(context.Context, string, bool) (*cri.ContainerStatusResponse, error) {
	r.asks++
	s := &cri.ContainerStatus{State: cri.ContainerExited, ExitCode: exitKilled, Reason: "Error"}
	if r.asks > r.after {
		s.Reason = reasonOOM
	}
	return &cri.ContainerStatusResponse{Status: s}, nil
}

func TestReasonOfKilledContainer(t *testing.T) {
	for _, c := range []struct {
		what   string
		after  int
		logged bool // in the kernel's log
		reason string
		asks   int
	}{
		{"known at once", 0, false, reasonOOM, 1},
		{"known a moment later", 2, false, reasonOOM, 3},
		{"the runtime has lost it", 1000, true, reasonOOM, killedAsks + 1},
		{"killed for another reason", 1000, false, "Error", killedAsks + 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := &lateOOM{after: c.after}
			begin := time.Now()
			st, err := newObserver(&Options{Runtime: rt, Node: "n", KilledForMemory: func(id string) bool { return c.logged && id == "x" }}, "u", new(clocks)).inspect(t.Context(), cri.Container{ID: "x"})
			if err != nil || st.reason != c.reason || rt.asks != c.asks {
				t.Errorf("%s: reason %q after %d questions, %v; want %q after %d", c.what, st.reason, rt.asks, err, c.reason, c.asks)
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("%s: the pod's worker was held up for %v", c.what, d)
			}
		})
	}
}
