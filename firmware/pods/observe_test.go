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
		reason string
		asks   int
	}{
		{"known at once", 0, reasonOOM, 1},
		{"known a moment later", 2, reasonOOM, 3},
		{"killed for another reason", 1000, "Error", killedAsks + 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := &lateOOM{after: c.after}
			begin := time.Now()
			st, err := newObserver(rt, "n", "u", new(clocks)).inspect(t.Context(), cri.Container{ID: "x"})
			if err != nil || st.reason != c.reason || rt.asks != c.asks {
				t.Errorf("%s: reason %q after %d questions, %v; want %q after %d", c.what, st.reason, rt.asks, err, c.reason, c.asks)
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("%s: the pod's worker was held up for %v", c.what, d)
			}
		})
	}
}
