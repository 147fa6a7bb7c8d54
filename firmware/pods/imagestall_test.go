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

// hangingRegistry is one whose pulls take their time, or never end. What of them is there is said by the test.
type hangingRegistry struct {
	Runtime
	mu    sync.Mutex
	parts map[string]PullPart
	ends  map[string]time.Duration // of pulls; those that are missing hang
}

func (h *hangingRegistry) PullImage(ctx context.Context, image *cri.ImageSpec, _ *cri.AuthConfig, _ *cri.PodSandboxConfig) (string, error) {
	var done <-chan time.Time
	if d, ok := h.ends[image.Image]; ok {
		done = time.After(d)
	}
	select {
	case <-ctx.Done():
		return "", &cri.Error{Method: "PullImage", Code: cri.ErrCanceled, Err: ctx.Err()}
	case <-done:
		return "id-" + image.Image, nil
	}
}

func (h *hangingRegistry) set(part string, have, total int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[part] = PullPart{have, total}
}

func stallRig(t *testing.T, h *hangingRegistry, most int) (*pulls, *sync.WaitGroup) {
	var wg sync.WaitGroup
	o := &Options{
		Runtime: h, ParallelPulls: most, PullStall: time.Minute, Log: slog.New(slog.DiscardHandler),
		PullProgress: func(context.Context) (map[string]PullPart, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			out := map[string]PullPart{}
			for name, p := range h.parts {
				out[name] = p
			}
			return out, nil
		},
		PartOwner: func(_ context.Context, part string) ([]string, error) {
			owner, _, _ := strings.Cut(part, "/")
			switch owner {
			case "?":
				return nil, nil
			case "!":
				return nil, errors.New("not now")
			}
			return []string{"docker.io/library/" + owner}, nil
		},
	}
	return newPulls(t.Context(), o, wg.Go), &wg
}

// TestPullThatHangsIsEnded, and the one beside it that gets something is not.
func TestPullThatHangsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingRegistry{parts: map[string]PullPart{"good/old": {1, 9}}, ends: map[string]time.Duration{"good:1": 5 * time.Minute}}
		p, wg := stallRig(t, h, 2)
		begin := time.Now()
		var pods sync.WaitGroup
		pods.Go(func() {
			_, err := p.get(t.Context(), spec("bad:1"), nil, nil, func(string) {})
			if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "nothing has come from the registry for 1m0s (2.0 MiB of 8.0 MiB of bad/1 are there)") || took > 2*time.Minute {
				t.Errorf("after %v: %v", took, err)
			}
		})
		pods.Go(func() {
			if got, err := p.get(t.Context(), spec("good:1"), nil, nil, func(string) {}); err != nil || got.ref != "id-good:1" {
				t.Errorf("the other one: %+v, %v", got, err)
			}
		})
		time.Sleep(10 * time.Second)
		h.set("bad/1", 2<<20, 8<<20)
		for i := range int64(20) {
			time.Sleep(10 * time.Second)
			h.set("good/1", i, 100)
		}
		h.set("good/1", 100, 100) // from here on it is unpacked
		pods.Wait()
		wg.Wait()
	})
}

// TestPullThatGetsNothing lets others pass, and is ended after a long time: it may be unpacking.
func TestPullThatGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingRegistry{parts: map[string]PullPart{}, ends: map[string]time.Duration{"good:1": time.Second, "unpacks:1": 2*time.Minute + 50*time.Second}}
		p, wg := stallRig(t, h, 2)
		begin := time.Now()
		var pods sync.WaitGroup
		pods.Go(func() {
			_, err := p.get(t.Context(), spec("silent:1"), nil, nil, func(string) {})
			if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "nothing has come from the registry for 3m0s") || took < 3*time.Minute || took > 4*time.Minute {
				t.Errorf("after %v: %v", took, err)
			}
		})
		pods.Go(func() {
			if _, err := p.get(t.Context(), spec("unpacks:1"), nil, nil, func(string) {}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		if _, err := p.get(t.Context(), spec("good:1"), nil, nil, func(string) {}); err != nil || time.Since(begin) > 2*time.Minute {
			t.Errorf("who came later waited %v: %v", time.Since(begin), err)
		}
		pods.Wait()
		wg.Wait()
	})
}

// TestWhosePartHangs: where nobody knows it is the only pull's, if there is only one.
func TestWhosePartHangs(t *testing.T) {
	for _, c := range []struct {
		part   string
		others bool
		ended  time.Duration // within which it is
	}{
		{"?/1", false, 2 * time.Minute}, {"!/1", false, 2 * time.Minute}, {"else/1", false, 5 * time.Minute}, {"?/1", true, 5 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &hangingRegistry{parts: map[string]PullPart{}, ends: map[string]time.Duration{"other:1": time.Hour}}
			p, wg := stallRig(t, h, 2)
			begin := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			if c.others {
				wg.Go(func() { _, _ = p.get(ctx, spec("other:1"), nil, nil, func(string) {}) })
			}
			wg.Go(func() {
				time.Sleep(7 * time.Second)
				h.set(c.part, 1, 9)
			})
			_, err := p.get(t.Context(), spec("app:1"), nil, nil, func(string) {})
			if took := time.Since(begin); err == nil || took > c.ended || took < c.ended-2*time.Minute {
				t.Errorf("%+v: after %v: %v", c, took, err)
			}
			cancel()
			wg.Wait()
		})
	}
}

// TestSilentPullBesideOneThatMoves: it does not live on what the other one gets.
func TestSilentPullBesideOneThatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangingRegistry{parts: map[string]PullPart{}, ends: map[string]time.Duration{"moves:1": 10 * time.Minute, "good:1": time.Second}}
		p, wg := stallRig(t, h, 2)
		begin := time.Now()
		var said []string
		var pods sync.WaitGroup
		pods.Go(func() {
			if _, err := p.get(t.Context(), spec("silent:1"), nil, nil, func(text string) { said = append(said, text) }); err == nil || time.Since(begin) > 4*time.Minute {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
		})
		pods.Go(func() {
			if _, err := p.get(t.Context(), spec("moves:1"), nil, nil, func(string) {}); err != nil {
				t.Error(err)
			}
		})
		pods.Go(func() {
			for i := range int64(58) {
				time.Sleep(10 * time.Second)
				h.set("moves/1", i<<20, 100<<20)
			}
		})
		time.Sleep(time.Second)
		if _, err := p.get(t.Context(), spec("good:1"), nil, nil, func(string) {}); err != nil || time.Since(begin) > 2*time.Minute {
			t.Errorf("who came later waited %v: %v", time.Since(begin), err)
		}
		pods.Wait()
		wg.Wait()
		if len(said) == 0 || strings.Contains(strings.Join(said, ""), "MiB") {
			t.Errorf("what the other one gets is told as its own: %q", said)
		}
	})
}
