//go:build integration

package registries_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/images"
)

// layer is the size of the layer of data that comes slowly, bytes. containerd tells of whole MiB.
const layer = 16 << 20

// faults are registries that are slow, hang or refuse. The pulls that take long are begun first: the others have to get by.
func (w *world) faults(t *testing.T) {
	w.slow(t)
	w.hangs(t)
	w.silent(t)
	for status, says := range map[int]string{
		http.StatusInternalServerError: "500 Internal Server Error", http.StatusForbidden: "the pod has no credentials",
		http.StatusUnauthorized: "the pod has no credentials", http.StatusTooManyRequests: "limits how much may be pulled",
	} {
		t.Run("status-"+strconv.Itoa(status), func(t *testing.T) { t.Parallel(); w.refusing(t, status, says) })
	}
}

// begun makes a pod now, in the order of the calls, and runs the test that waits for what becomes of it in parallel.
func (w *world) begun(t *testing.T, name string, f images.Front, then func(t *testing.T)) {
	reg := w.serve(t, f)
	w.pod(t, name, want{image: reg.Ref(name + ":1")})
	t.Run(name, func(t *testing.T) { t.Parallel(); then(t) })
}

// pushData makes the sample image with a layer of data of size bytes known by a name, and returns the path of that layer at a registry.
func (w *world) pushData(t *testing.T, name string, size int) string {
	t.Helper()
	image, err := images.WithData(w.sample, size)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Images.Push(t.Context(), name+":1", image); err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[len(layers)-1].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return "/v2/" + name + "/blobs/" + digest.String()
}

// part serves the first n bytes of what the registry has.
func (w *world) part(rw http.ResponseWriter, r *http.Request, n int) []byte {
	all := httptest.NewRecorder()
	plain := r.Clone(r.Context())
	plain.Header.Del("Range")
	w.Images.Content().ServeHTTP(all, plain)
	b := all.Body.Bytes()
	rw.Header().Set("Content-Length", strconv.Itoa(len(b)))
	rw.Header().Set("Content-Type", "application/octet-stream")
	_, _ = rw.Write(b[:min(n, len(b))])
	_ = http.NewResponseController(rw).Flush()
	return b[min(n, len(b)):]
}

// hangs: as many registries as there may be pulls at a time send half of a layer and then nothing. Both pulls are ended and tried again, and the
// second time the registry is well.
func (w *world) hangs(t *testing.T) {
	for _, name := range []string{"hangs-1", "hangs-2"} {
		path := w.pushData(t, name, layer)
		var times atomic.Int32
		w.begun(t, name, images.Front{Fault: func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path || r.Method != http.MethodGet || times.Add(1) > 1 {
				return false
			}
			w.part(rw, r, layer/2+1000)
			<-r.Context().Done()
			return true
		}}, func(t *testing.T) {
			w.event(t, name, "Failed", "nothing has come from the registry for 5s (8.0 MiB of 16.0 MiB of layer-")
			w.runs(t, name)
		})
	}
}

// silent: a registry that takes requests and never answers keeps nobody else waiting.
func (w *world) silent(t *testing.T) {
	for _, name := range []string{"silent-1", "silent-2"} {
		w.begun(t, name, images.Front{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}}, func(t *testing.T) { w.event(t, name, "Failed", "nothing has come from the registry for 15s") })
	}
}

// slow: a layer that takes more than half a minute is followed by an event, and is not taken for one that hangs.
func (w *world) slow(t *testing.T) {
	const takes, steps = 33 * time.Second, 66
	path := w.pushData(t, "slow", layer)
	w.begun(t, "slow", images.Front{Fault: func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path || r.Method != http.MethodGet {
			return false
		}
		for rest := w.part(rw, r, 0); len(rest) > 0; {
			n := min(len(rest), layer/steps+1)
			if _, err := rw.Write(rest[:n]); err != nil {
				return true
			}
			_ = http.NewResponseController(rw).Flush()
			rest = rest[n:]
			select {
			case <-r.Context().Done():
				return true
			case <-time.After(takes / steps):
			}
		}
		return true
	}}, func(t *testing.T) {
		w.event(t, "slow", "Pulling", "MiB so far")
		w.runs(t, "slow")
		w.event(t, "slow", "Pulled", "Successfully pulled image")
	})
}

// refusing: the registry answers with a status. It is asked again after the kubelet's 10 s, not before.
func (w *world) refusing(t *testing.T, status int, says string) {
	var mu sync.Mutex
	var asked []time.Time
	reg := w.serve(t, images.Front{Fault: func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		mu.Lock()
		asked = append(asked, time.Now())
		mu.Unlock()
		images.Refuse(rw, status)
		return true
	}})
	name := "status-" + strconv.Itoa(status)
	w.pod(t, name, want{image: reg.Ref("any:1")})
	w.waits(t, name, failed, strconv.Itoa(status), says)
	w.waits(t, name, "ImagePullBackOff", "Back-off pulling image", "ErrImagePull: Failed to pull image")
	w.event(t, name, "BackOff", "Back-off pulling image")
	for {
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		last, first := asked[len(asked)-1], asked[0]
		mu.Unlock()
		if pause := last.Sub(first); pause > 5*time.Second { // the next round
			if pause < 9500*time.Millisecond {
				t.Errorf("asked again after %v", pause)
			}
			return
		}
		if time.Since(first) > 40*time.Second {
			t.Fatal("not asked again in 40 s")
		}
	}
}
