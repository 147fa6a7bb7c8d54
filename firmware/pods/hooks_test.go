package pods

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// hooked is a pod whose container has both hooks.
const hooked = `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"terminationGracePeriodSeconds":30,"containers":[{"name":"c","image":"app:1",
	"lifecycle":{"postStart":{"exec":{"command":["begin"]}},"preStop":{"exec":{"command":["end"]}}}}]}}`

func deletingPod(doc, grace string) string {
	return strings.Replace(doc, `"metadata":{`, `"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":`+grace+`,`, 1)
}

// commands makes the fake runtime note the commands that are run, and answer each with an exit code (0 if there is none).
func (w *world) commands(codes map[string]int32) func() []string {
	var mu sync.Mutex
	var ran []string
	w.rt.exec = func(_ string, cmd []string) (int32, error) {
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, cmd[0])
		return codes[cmd[0]], nil
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ran)
	}
}

func TestHooks(t *testing.T) {
	simulate(t, func(w *world) {
		ran := w.commands(nil)
		w.rt.execTakes = 10 * time.Second
		w.apply(hooked)
		w.settle(5 * time.Second)
		if s := w.status(); s.Phase != phasePending {
			t.Errorf("the pod is %s before its postStart hook is done", s.Phase)
		}
		w.settle(10 * time.Second)
		if s := w.status(); s.Phase != phaseRunning || len(ran()) != 1 || ran()[0] != "begin" {
			t.Fatalf("phase %s, hooks %v", s.Phase, ran())
		}
		w.rt.programs["c"] = nil
		w.apply(deletingPod(hooked, "30"))
		w.settle(9 * time.Second)
		if w.report(podKey).Deleted || w.rt.called("StopContainer") != 0 {
			t.Error("stopped before the preStop hook was done")
		}
		w.settle(30 * time.Second)
		if !w.report(podKey).Deleted || !slices.Equal(ran(), []string{"begin", "end"}) {
			t.Errorf("deleted %v, hooks %v", w.report(podKey).Deleted, ran())
		}
		if !slices.Equal(w.rt.stops, []time.Duration{20 * time.Second}) {
			t.Errorf("grace periods %v, want what the hook left of 30 s", w.rt.stops)
		}
	})
}

// TestPreStopTakesTooLong: the container is stopped with the least grace there is, and an event says so.
func TestPreStopTakesTooLong(t *testing.T) {
	simulate(t, func(w *world) {
		slow := strings.Replace(hooked, `"preStop":{"exec":{"command":["end"]}}`, `"preStop":{"sleep":{"seconds":600}}`, 1)
		w.commands(nil)
		w.apply(slow)
		w.settle(time.Second)
		w.apply(deletingPod(slow, "5"))
		w.settle(8 * time.Second)
		if !slices.Equal(w.rt.stops, []time.Duration{minGrace * time.Second}) {
			t.Errorf("grace periods %v, want %d s", w.rt.stops, minGrace)
		}
		if e := w.event("FailedPreStopHook"); e == nil || !strings.Contains(e.message, "deadline exceeded") || !strings.Contains(e.ref, "spec.containers{c}") {
			t.Errorf("event %+v", e)
		}
	})
}

// TestPreStopRunsOnce: a deletion that is made shorter while the hook runs does not run it again.
func TestPreStopRunsOnce(t *testing.T) {
	simulate(t, func(w *world) {
		ran := w.commands(nil)
		w.apply(hooked)
		w.settle(time.Second)
		w.rt.execTakes = 20 * time.Second
		w.apply(deletingPod(hooked, "60"))
		w.settle(time.Second)
		w.apply(deletingPod(hooked, "3"))
		w.settle(5 * time.Second)
		if !w.report(podKey).Deleted || !slices.Equal(ran(), []string{"begin", "end"}) {
			t.Errorf("deleted %v, hooks %v", w.report(podKey).Deleted, ran())
		}
	})
}

// TestPostStartFails: the container is stopped and started again with the back-off of one that crashes.
func TestPostStartFails(t *testing.T) {
	simulate(t, func(w *world) {
		w.commands(map[string]int32{"begin": 3})
		w.apply(hooked)
		w.settle(3 * time.Second)
		if e := w.event("FailedPostStartHook"); e == nil || !strings.Contains(e.message, "code 3") {
			t.Errorf("event %+v", e)
		}
		w.settle(5 * time.Second)
		s := w.status()
		if c := s.ContainerStatuses[0]; s.Phase != phaseRunning || c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.LastState.Terminated == nil || c.RestartCount != 1 {
			t.Errorf("phase %s, container %+v", s.Phase, c)
		}
	})
	simulate(t, func(w *world) {
		ran := w.commands(map[string]int32{"begin": 3})
		w.apply(strings.Replace(hooked, `"spec":{`, `"spec":{"restartPolicy":"Never",`, 1))
		w.settle(time.Minute)
		s := w.status()
		if c := s.ContainerStatuses[0]; s.Phase != phaseFailed || c.State.Terminated == nil || c.State.Terminated.ExitCode != 143 || c.RestartCount != 0 {
			t.Errorf("phase %s, container %+v", s.Phase, c)
		}
		if !slices.Equal(ran(), []string{"begin", "end"}) {
			t.Errorf("hooks %v", ran())
		}
	})
}

// TestHTTPHook asks the container's server.
func TestHTTPHook(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("X-Reason")
		w.WriteHeader(http.StatusTeapot)
	})}
	go srv.Serve(l)   //nolint:errcheck // ends with the test
	defer srv.Close() //nolint:errcheck // ends with the test
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, `{"containers":[{"name":"c","image":"a","ports":[{"name":"web","containerPort":`+port+`}],"lifecycle":{"preStop":{"httpGet":{"path":"/bye?now=1","port":"web","httpHeaders":[{"name":"X-Reason","value":"test"}]}}}}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	spec := &d.pod.Spec.Containers[0]
	err = (&caller{spec: spec, ip: "127.0.0.1"}).hook(t.Context(), spec.Lifecycle.PreStop)
	if got := <-asked; got != "/bye?now=1 test" {
		t.Errorf("asked for %q", got)
	}
	if err != nil {
		t.Errorf("an answer gave %v: whatever it is, the hook has run", err)
	}
}

// TestHookWithoutRuntime: a runtime that is gone is no failure of the hook.
func TestHookWithoutRuntime(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.exec = func(string, []string) (int32, error) { return 0, errFakeDown }
		w.apply(hooked)
		w.settle(3 * time.Second)
		if e := w.event("FailedPostStartHook"); e != nil {
			t.Errorf("event %+v", e)
		}
		if !errors.Is(errFakeDown, cri.ErrUnavailable) {
			t.Fatal("the fake's error is not that of a runtime that is gone")
		}
	})
}
