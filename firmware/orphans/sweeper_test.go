package orphans

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const config = `{"containerdEndpoint":"/run/containerd/containerd.sock","stateDir":"/run/containerd/cri","netnsMountsUnderStateDir":false,
	"cni":{"binDir":"/opt/cni/bin","confDir":"/etc/cni/net.d"}}`

// world is a made-up machine and the runtime on it.
type world struct {
	boxes   map[string]string // network namespace by sandbox
	shim    map[string]int
	nets    []string
	links   []attachment
	config  string
	down    error
	stuck   error // of everything that is removed
	removed []string
	asked   int // of sandboxes' namespaces
	foreign string
	odd     error // of the sandboxes' status
}

func (w *world) Status(context.Context, bool) (*cri.StatusResponse, error) {
	return &cri.StatusResponse{Info: map[string]string{"config": w.config}}, w.down
}

func (w *world) ListPodSandbox(context.Context, *cri.PodSandboxFilter) ([]cri.PodSandbox, error) {
	var out []cri.PodSandbox
	for _, id := range slices.Sorted(maps.Keys(w.boxes)) {
		out = append(out, cri.PodSandbox{ID: id})
	}
	return out, w.down
}

func (w *world) PodSandboxStatus(_ context.Context, id string, _ bool) (*cri.PodSandboxStatusResponse, error) {
	w.asked++
	if w.odd != nil {
		return nil, w.odd
	}
	namespaces := []map[string]string{{"type": "pid"}}
	if path := w.boxes[id]; path != "" {
		namespaces = append(namespaces, map[string]string{"type": "network", "path": "/var/run/netns/" + path})
	}
	info, err := json.Marshal(map[string]any{"runtimeSpec": map[string]any{"linux": map[string]any{"namespaces": namespaces}}})
	return &cri.PodSandboxStatusResponse{Info: map[string]string{"info": string(info)}}, err
}

func (w *world) shims(socket string) (map[string]int, error) {
	if socket != "/run/containerd/containerd.sock" {
		return nil, fmt.Errorf("asked for the shims of %s", socket)
	}
	return maps.Clone(w.shim), nil
}

func (w *world) namespaces(dir string) ([]string, error) {
	if dir != "/var/run/netns" {
		return nil, fmt.Errorf("asked for the namespaces in %s", dir)
	}
	return slices.Clone(w.nets), nil
}

func (w *world) attachments(n network) ([]attachment, error) {
	if n.confDir != "/etc/cni/net.d" || !slices.Equal(n.binDirs, []string{"/opt/cni/bin"}) {
		return nil, fmt.Errorf("asked for the addresses of %+v", n)
	}
	return slices.Clone(w.links), nil
}

func (w *world) endShim(pid int, _, id string) error {
	return w.gone(fmt.Sprintf("shim %s %d", id, pid), func() { delete(w.shim, id) })
}

func (w *world) removeNamespace(_, name string) error {
	return w.gone("namespace "+name, func() { w.nets = slices.DeleteFunc(w.nets, func(n string) bool { return n == name }) })
}

func (w *world) detach(_ context.Context, _ network, a attachment) error {
	return w.gone("address "+a.container+" "+a.ifName, func() { w.links = slices.DeleteFunc(w.links, func(b attachment) bool { return a == b }) })
}

func (w *world) gone(what string, remove func()) error {
	if w.stuck != nil {
		return w.stuck
	}
	w.removed = append(w.removed, what)
	remove()
	return nil
}

func newWorld() *world {
	return &world{
		config: config,
		boxes:  map[string]string{"a": "cni-a", "host": ""},
		shim:   map[string]int{"a": 1, "host": 2},
		nets:   []string{"cni-a"},
		links:  []attachment{{"a", "eth0"}},
	}
}

func (w *world) lose(id string) {
	w.shim[id], w.nets, w.links = 7, append(w.nets, "cni-"+id), append(w.links, attachment{id, "eth0"})
}

// sweep runs a Sweeper for a while, with what happens meanwhile.
func sweep(t *testing.T, w *world, meanwhile func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, done := New(Options{Runtime: w, machine: w, Foreign: func(_ context.Context, id string) (bool, error) { return id == w.foreign, w.down }}), make(chan error)
		go func() { done <- s.Run(ctx) }()
		meanwhile()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (w *world) want(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(w.removed)
	if !slices.Equal(w.removed, want) {
		t.Errorf("removed %q, want %q", w.removed, want)
	}
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWhatIsLostGoesAfterAWhile(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() {
		w.lose("b")
		wait(5*time.Minute + 30*time.Second) // first seen after one
		w.want(t)
		wait(time.Minute)
		w.want(t, "address b eth0", "namespace cni-b", "shim b 7")
		wait(time.Hour)
	})
	w.want(t, "address b eth0", "namespace cni-b", "shim b 7")
	if w.asked > 2 {
		t.Errorf("two sandboxes were asked %d times for their namespaces", w.asked)
	}
}

func TestWhatIsOwnedStays(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() { wait(time.Hour) })
	w.want(t)
	if w.asked > 2 {
		t.Errorf("two sandboxes were asked %d times", w.asked)
	}
}

// A sandbox that is being made is not in the list yet.
func TestWhatGetsAnOwnerStays(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() {
		w.lose("b")
		wait(4*time.Minute + 30*time.Second)
		w.boxes["b"] = "cni-b"
		wait(2 * time.Minute)
		delete(w.boxes, "b") // seen as lost anew
		wait(4 * time.Minute)
		w.want(t)
		wait(3 * time.Minute)
	})
	w.want(t, "address b eth0", "namespace cni-b", "shim b 7")
}

func TestNothingIsLostWhileTheRuntimeIsDown(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() {
		w.lose("b")
		wait(90 * time.Second)
		w.down = errors.New("connection refused")
		wait(time.Hour)
		w.want(t)
		w.boxes["b"], w.down = "cni-b", nil // it was lost in the list only
		wait(time.Hour)
	})
	w.want(t)
}

func TestWhatCannotBeRemovedIsTriedAgain(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() {
		w.lose("b")
		w.stuck = errors.New("process 12 is in it")
		wait(10 * time.Minute)
		w.want(t)
		w.stuck = nil
		wait(time.Minute)
	})
	w.want(t, "address b eth0", "namespace cni-b", "shim b 7")
}

// nerdctl's containers may be in containerd's namespace of CRI.
func TestOtherToolsAreLeftAlone(t *testing.T) {
	w := newWorld()
	w.shim["n"], w.foreign = 9, "n"
	sweep(t, w, func() { wait(time.Hour) })
	w.want(t)
}

// A sandbox that does not tell its network namespace keeps all of them, and nothing else.
func TestOddSandbox(t *testing.T) {
	w := newWorld()
	w.odd = errors.New("no spec")
	sweep(t, w, func() {
		w.lose("b")
		wait(time.Hour)
	})
	w.want(t, "address b eth0", "shim b 7")
}

// A runtime that hangs for long may be making what is not in its list.
func TestTimeOfAHangDoesNotCount(t *testing.T) {
	w := newWorld()
	sweep(t, w, func() {
		w.lose("b")
		wait(90 * time.Second)
		w.down = errors.New("timeout")
		wait(time.Hour)
		w.down = nil
		wait(4 * time.Minute)
		w.want(t)
		wait(3 * time.Minute)
	})
	w.want(t, "address b eth0", "namespace cni-b", "shim b 7")
}

func TestOtherRuntimesAreLeftAlone(t *testing.T) {
	for _, config := range []string{"", "no JSON", `{"runtime":"crio"}`} {
		w := newWorld()
		w.config = config
		sweep(t, w, func() {
			w.lose("b")
			wait(time.Hour)
		})
		w.want(t)
	}
}

func TestPlaces(t *testing.T) {
	p := placesOf(strings.Replace(config, `"netnsMountsUnderStateDir":false`, `"netnsMountsUnderStateDir":true`, 1))
	if p.namespaces != "/run/containerd/cri/netns" {
		t.Errorf("namespaces in %s", p.namespaces)
	}
	if p = placesOf(`{"stateDir":"/s","cni":{"binDirs":["/a","/b"]}}`); !slices.Equal(p.network.binDirs, []string{"/a", "/b"}) {
		t.Errorf("plugins in %q", p.network.binDirs)
	}
}
