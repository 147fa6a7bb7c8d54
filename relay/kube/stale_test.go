package kube

import (
	"errors"
	"testing"
	"testing/synctest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry/skerry/firmware/wire"
)

// TestAttemptOfAnOlderSessionStops: an agent leaves this relay and comes back while a report of its older session is being
// written. Another relay may have written a newer one in between, so a conflict must not lead to another attempt, although the
// Lease is this relay's.
func TestAttemptOfAnOlderSessionStops(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.start("gw-1", 7)
		back := false
		b.api.failWith(func(verb, resource, name string) error {
			if verb != "patch/status" || back {
				return nil
			}
			back = true
			if err := b.sink.SessionStarted(b.t.Context(), "gw-1", 8); err != nil { // no request: the Lease is this relay's
				t.Error(err)
			}
			return apierrors.NewConflict(podsGVR.GroupResource(), name, errors.New("a newer report stands there"))
		})
		b.report("gw-1", 7, podKey, runningPod)
		if field(b.api.get(podsGVR, "default/web"), "status", "phase") != nil {
			t.Error("a report of an older session was written")
		}
		b.report("gw-1", 8, podKey, runningPod)
		if !back || field(b.api.get(podsGVR, "default/web"), "status", "phase") != "Running" {
			t.Error("the report of the newer session was not written")
		}
	})
}
