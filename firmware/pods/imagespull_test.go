package pods

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// slowRegistry pulls in a minute, and knows who may.
type slowRegistry struct {
	Runtime
	mu        sync.Mutex
	now, most int
	calls     []string
	password  string // that works; empty: no credentials are needed
	ended     int
}

func (s *slowRegistry) PullImage(ctx context.Context, image *cri.ImageSpec, auth *cri.AuthConfig, _ *cri.PodSandboxConfig) (string, error) {
	who := ""
	if auth != nil {
		who = auth.Password
	}
	s.mu.Lock()
	s.now++
	s.most = max(s.most, s.now)
	s.calls = append(s.calls, image.Image+" "+who)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if who != s.password {
		return "", &cri.Error{Method: "PullImage", Code: cri.ErrUnknown, Message: "401 for " + who}
	}
	select {
	case <-ctx.Done():
		s.mu.Lock()
		s.ended++
		s.mu.Unlock()
		return "", ctx.Err()
	case <-time.After(time.Minute):
		return "id-" + image.Image, nil
	}
}

func pullRig(t *testing.T, s *slowRegistry, most int, progress PullProgress) (*pulls, *sync.WaitGroup) {
	var wg sync.WaitGroup
	return newPulls(t.Context(), &Options{Runtime: s, ParallelPulls: most, PullProgress: progress, PullStall: 10 * time.Minute, Log: slog.Default()}, wg.Go), &wg
}

// passwords are credentials that are from no secret.
func passwords(list ...string) (out []credential) {
	for _, p := range list {
		out = append(out, credential{auth: &cri.AuthConfig{Password: p}})
	}
	return out
}

func spec(name string) *cri.ImageSpec { return &cri.ImageSpec{Image: name} }

// TestPullsAreLimitedAndJoined: five pods want three images, two at a time.
func TestPullsAreLimitedAndJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{}
		p, wg := pullRig(t, s, 2, nil)
		begin := time.Now()
		var pods sync.WaitGroup
		for _, name := range []string{"a", "a", "a", "b", "c"} {
			pods.Go(func() {
				got, err := p.get(t.Context(), spec(name), nil, nil, func(string) {})
				if err != nil || got.ref != "id-"+name || got.took != time.Minute {
					t.Errorf("%s: %+v, %v", name, got, err)
				}
			})
		}
		pods.Wait()
		wg.Wait()
		if s.most != 2 || len(s.calls) != 3 || time.Since(begin) != 2*time.Minute || len(p.now) != 0 {
			t.Errorf("%d at a time, calls %v, %v, %d left", s.most, s.calls, time.Since(begin), len(p.now))
		}
	})
}

// TestPullGoesOnForWhoStays: a pull is not cut short while a pod waits for it, and ends with the last one. Other credentials are another pull.
func TestPullGoesOnForWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{}
		p, wg := pullRig(t, s, 2, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var pods sync.WaitGroup
		pods.Go(func() {
			if _, err := p.get(ctx, spec("a"), nil, nil, func(string) {}); !errors.Is(err, context.Canceled) {
				t.Errorf("the pod that left: %v", err)
			}
		})
		pods.Go(func() {
			if got, err := p.get(t.Context(), spec("a"), nil, nil, func(string) {}); err != nil || got.ref != "id-a" {
				t.Errorf("the pod that stayed: %+v, %v", got, err)
			}
		})
		time.Sleep(10 * time.Second)
		cancel()
		pods.Wait()
		if len(s.calls) != 1 || s.ended != 0 {
			t.Errorf("calls %v, %d ended", s.calls, s.ended)
		}
		alone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := p.get(alone, spec("b"), nil, nil, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("alone: %v", err)
		}
		wg.Wait()
		if s.ended != 1 || len(p.now) != 0 {
			t.Errorf("%d pulls ended with their pod, %d left", s.ended, len(p.now))
		}
		if pullKey(spec("a"), nil) == pullKey(spec("a"), passwords("u")) {
			t.Error("a pull with credentials is joined with one without")
		}
	})
}

func TestPullCredentialsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{password: "right"}
		p, wg := pullRig(t, s, 1, nil)
		got, err := p.get(t.Context(), spec("a"), passwords("wrong", "right", "never"), nil, func(string) {})
		if err != nil || got.ref != "id-a" || got.used.auth.Password != "right" || strings.Join(s.calls, ",") != "a wrong,a right" {
			t.Errorf("%+v, %v, calls %v", got, err, s.calls)
		}
		_, err = p.get(t.Context(), spec("a"), passwords("x", "y", "x"), nil, func(string) {})
		if err == nil || strings.Count(err.Error(), "401 for x") != 1 || !strings.Contains(err.Error(), "401 for y") {
			t.Errorf("all refused: %v", err)
		}
		wg.Wait()
	})
}

func TestPullTellsHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{}
		begin := time.Now()
		p, wg := pullRig(t, s, 1, func(context.Context) (map[string]PullPart, error) {
			if time.Since(begin) > 20*time.Second { // the first layer is done and no longer there
				return map[string]PullPart{"layer-b": {Have: 1 << 20, Total: 4 << 20}}, nil
			}
			return map[string]PullPart{"layer-a": {Have: 1 << 20, Total: 2 << 20}}, nil
		})
		var said []string
		if _, err := p.get(t.Context(), spec("a"), nil, nil, func(text string) { said = append(said, text) }); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if strings.Join(said, ",") != "3.0 MiB of 6.0 MiB so far" {
			t.Errorf("said %q", said)
		}
	})
}

// TestPullAhead: the images of the configuration are fetched without a pod, and never collected.
func TestPullAhead(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.PrePull = []string{"app:9", "app:2"} // the first one comes to the registry later
		w.start()
		w.settle(2 * time.Second)
		if got := strings.Join(w.imageNames(), ","); got != "app:1,app:2" {
			t.Fatalf("one that cannot be had keeps the others: images %s", got)
		}
		w.rt.mu.Lock()
		w.rt.remote["app:9"] = true
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		if got := strings.Join(w.imageNames(), ","); got != "app:1,app:2,app:9" {
			t.Errorf("images %s", got)
		}
		if wanted := w.m.wantedImages(); strings.Join(wanted, ",") != "app:2,app:9" {
			t.Errorf("wanted %v", wanted)
		}
	})
}

// TestPullsAreHeld: none begins while they are held, the pod hears why, and what is under way ends.
func TestPullsAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{}
		p, wg := pullRig(t, s, 2, nil)
		var mu sync.Mutex
		var gate chan struct{}
		p.held = func() <-chan struct{} {
			mu.Lock()
			defer mu.Unlock()
			if gate == nil {
				return nil
			}
			return gate
		}
		begin := time.Now()
		var pods sync.WaitGroup
		get := func(name string, said func(string)) {
			pods.Go(func() {
				if got, err := p.get(t.Context(), spec(name), nil, nil, said); err != nil || got.ref != "id-"+name {
					t.Errorf("%s: %+v, %v", name, got, err)
				}
			})
		}
		get("a", func(string) {})
		synctest.Wait()
		mu.Lock()
		gate = make(chan struct{})
		mu.Unlock()
		heard := ""
		get("b", func(text string) { heard = text })
		ctx, cancel := context.WithCancel(t.Context())
		pods.Go(func() {
			if _, err := p.get(ctx, spec("c"), nil, nil, func(string) {}); !errors.Is(err, context.Canceled) {
				t.Errorf("the pod that left: %v", err)
			}
		})
		time.Sleep(9 * time.Minute)
		cancel()
		synctest.Wait()
		if len(s.calls) != 1 || !strings.Contains(heard, "enough memory") {
			t.Errorf("calls %v while pulls are held, the pod hears %q", s.calls, heard)
		}
		mu.Lock()
		close(gate)
		gate = nil
		mu.Unlock()
		pods.Wait()
		wg.Wait()
		if len(s.calls) != 2 || time.Since(begin) != 10*time.Minute {
			t.Errorf("calls %v, %v", s.calls, time.Since(begin))
		}
	})
}

// TestPullsAreNotHeldForEver: the pods of a gateway whose memory stays short start all the same.
func TestPullsAreNotHeldForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowRegistry{}
		p, wg := pullRig(t, s, 2, nil)
		gate := make(chan struct{})
		p.held = func() <-chan struct{} { return gate }
		begin := time.Now()
		if got, err := p.get(t.Context(), spec("a"), nil, nil, func(string) {}); err != nil || got.ref != "id-a" || time.Since(begin) != holdPatience+time.Minute {
			t.Errorf("%+v, %v after %v", got, err, time.Since(begin))
		}
		wg.Wait()
	})
}
