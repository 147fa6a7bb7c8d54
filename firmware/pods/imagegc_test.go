package pods

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
)

// fillDisk makes the disk as full as the images on it: each takes 10 % of it.
func (w *world) fillDisk() {
	w.o.DiskUsage = func(path string) (int64, int64, error) {
		if path != "/images" {
			w.t.Errorf("the disk of %s was measured", path)
		}
		return 100, 100 - 10*int64(len(w.imageNames())), nil
	}
}

func (w *world) imageNames() (names []string) {
	w.rt.mu.Lock()
	defer w.rt.mu.Unlock()
	for name, img := range w.rt.images {
		if name != img.ID {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func podOf(name, image string) (wire.Key, string) {
	return wire.Key("pods/default/" + name + "/" + name), `{"metadata":{},"spec":{"containers":[{"name":"c","image":"` + image + `"}]}}`
}

// TestImagesAreCollected pulls image after image: when the disk is nearly full the ones that went out of use first go, those that
// were there before the agent, that are in use or that are pinned stay.
func TestImagesAreCollected(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.fillDisk()
		w.start()
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			w.rt.mu.Lock()
			w.rt.remote[name+":1"] = true
			w.rt.mu.Unlock()
			key, doc := podOf(name, name+":1")
			w.put(key, doc)
			w.settle(6 * time.Minute)
			if name != "e" { // its pod goes; one after the other falls out of use
				w.desired.remove(key)
				w.settle(time.Minute)
			}
		}
		w.rt.mu.Lock()
		for _, name := range []string{"flashed:1", "pinned:1"} {
			w.rt.images[name] = &cri.Image{ID: "sha256:" + name, Pinned: name == "pinned:1"}
		}
		w.rt.mu.Unlock()
		before := w.imageNames() // a to e, app:1, flashed, pinned: 80 %
		w.settle(6 * time.Minute)
		if got := w.imageNames(); !slices.Equal(got, before) {
			t.Fatalf("below the threshold: images %v, want %v", got, before)
		}
		// After a restart the agent still knows what it pulled.
		w.stop()
		w.start()
		w.rt.mu.Lock()
		w.rt.images["more:1"] = &cri.Image{ID: "sha256:more"}
		w.rt.images["most:1"] = &cri.Image{ID: "sha256:most"}
		w.rt.mu.Unlock()
		w.settle(6 * time.Minute) // 100 %, down to 80 %
		if got, want := w.imageNames(), []string{"app:1", "c:1", "d:1", "e:1", "flashed:1", "more:1", "most:1", "pinned:1"}; !slices.Equal(got, want) {
			t.Errorf("images %v, want %v", got, want)
		}
		w.rt.mu.Lock()
		for _, name := range []string{"x:1", "y:1", "z:1"} {
			w.rt.images[name] = &cri.Image{ID: "sha256:" + name}
		}
		w.rt.mu.Unlock()
		w.settle(20 * time.Minute)
		if got := w.imageNames(); slices.Contains(got, "c:1") || slices.Contains(got, "d:1") || !slices.Contains(got, "e:1") || len(got) != 9 {
			t.Errorf("images %v: all that is unused and was pulled goes, and nothing else", got)
		}
		if n := strings.Count(w.logText(), "the disk stays nearly full"); n != 1 {
			t.Errorf("it was said %d times that the disk stays full, want once", n)
		}
	})
}

// TestImageOfAPodThatWaits is not removed, though no container has it.
func TestImageOfAPodThatWaits(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.fillDisk()
		w.start()
		w.apply(strings.Replace(simplePod, "app:1", "app:2", 1))
		w.settle(time.Minute)
		w.rt.mu.Lock()
		w.rt.containers = map[string]*fakeContainer{}
		w.rt.failCreate = errFakeDown
		for _, name := range []string{"1", "2", "3", "4", "5", "6", "7"} {
			w.rt.images[name] = &cri.Image{ID: "sha256:" + name}
		}
		w.rt.mu.Unlock()
		w.settle(20 * time.Minute)
		if got := w.imageNames(); !slices.Contains(got, "app:2") {
			t.Errorf("images %v", got)
		}
	})
}

// TestImageListIsDamaged: nothing is removed that cannot be known to be replaceable.
func TestImageListIsDamaged(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(strings.Replace(simplePod, "app:1", "app:2", 1))
		w.settle(time.Minute)
		w.desired.remove(podKey)
		w.settle(time.Minute)
		w.stop()
		path := filepath.Join(w.o.Dir, imagesFile)
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "app:2") {
			t.Fatalf("list %s, %v", b, err)
		}
		if err := os.WriteFile(path, []byte(`{"sha256:app:2":`), 0o600); err != nil {
			t.Fatal(err)
		}
		w.fillDisk()
		w.rt.mu.Lock()
		for _, name := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
			w.rt.images[name] = &cri.Image{ID: "sha256:" + name}
		}
		before := maps.Clone(w.rt.images)
		w.rt.mu.Unlock()
		w.start()
		w.settle(20 * time.Minute)
		if got := w.imageNames(); len(got) != 10 || len(before) < 10 {
			t.Errorf("images %v", got)
		}
		if !strings.Contains(w.logText(), "the list of pulled images cannot be read") {
			t.Error("nothing was said of the damaged list")
		}
	})
}

// TestImageListIsWrittenRarely: a look that finds nothing new writes nothing.
func TestImageListIsWrittenRarely(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(strings.Replace(simplePod, "app:1", "app:2", 1))
		w.settle(time.Minute)
		path := filepath.Join(w.o.Dir, imagesFile)
		w.settle(time.Hour)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		w.settle(24 * time.Hour)
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the list was written though nothing changed: %v", err)
		}
		w.desired.remove(podKey)
		w.settle(time.Hour)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("an image went out of use, and the list does not say when: %v", err)
		}
	})
}

// forgetful is a runtime that cannot tell what a name stands for once it was asked a few times.
type forgetful struct {
	*fakeRuntime
	asks int
}

func (f *forgetful) ImageStatus(ctx context.Context, image *cri.ImageSpec, verbose bool) (*cri.ImageStatusResponse, error) {
	if f.asks--; f.asks < 0 {
		return nil, errFakeDown
	}
	return f.fakeRuntime.ImageStatus(ctx, image, verbose)
}

// TestImagesOfUnknownUse: if the runtime cannot say what pods want, in whatever moment, nothing is removed.
func TestImagesOfUnknownUse(t *testing.T) {
	for asks := range 3 {
		rt := &forgetful{fakeRuntime: newFakeRuntime(), asks: asks}
		rt.images["idle:1"] = &cri.Image{ID: "sha256:idle"}
		k := &imageKeeper{
			rt: rt, access: newImageAccess(CheckPulled, nil, nil, slog.New(slog.DiscardHandler)), list: rt.ListContainers, wanted: func() []string { return []string{"app:1"} }, known: func() knowledge { return knowledge{all: true} }, high: 85, low: 80,
			usage: func(string) (int64, int64, error) { return 100, 1, nil },
			path:  filepath.Join(t.TempDir(), imagesFile), log: slog.New(slog.DiscardHandler), look: 5,
			pulled: map[string]*pulledImage{"sha256:idle": {Ref: "idle:1", Used: 1}},
		}
		err := k.pass(t.Context())
		if known := asks == 2; (err == nil) != known || (rt.called("RemoveImage") == 1) != known {
			t.Errorf("after %d answers: error %v, %d images removed", asks, err, rt.called("RemoveImage"))
		}
	}
}

// TestImagesOfStaticPods: on a gateway whose view is not whole, images go that only static pods have used, once no file names them; and none while
// a file cannot be read, which may name any.
func TestImagesOfStaticPods(t *testing.T) {
	simulate(t, func(w *world) {
		dir := staticWorld(w)
		var whole, full atomic.Bool
		whole.Store(true)
		w.o.Complete = whole.Load
		w.o.DiskUsage = func(string) (int64, int64, error) {
			if full.Load() {
				return 100, 1, nil
			}
			return 100, 50, nil
		}
		for _, name := range []string{"app:3", "shared:1", "cluster:1"} {
			w.rt.remote[name] = true
		}
		other := strings.ReplaceAll(strings.Replace(staticYAML, "app:1", "shared:1", 1), "name: dns", "name: other")
		w.file(dir, "dns.yaml", strings.Replace(staticYAML, "app:1", "app:2", 1))
		w.file(dir, "other.yaml", other)
		w.start()
		w.settle(time.Minute)
		users := map[string]wire.Key{}
		for _, name := range []string{"shared", "cluster"} {
			key, doc := podOf(name, name+":1")
			users[name] = key
			w.put(key, doc)
		}
		w.settle(time.Minute)
		for _, key := range users {
			w.desired.remove(key)
		}
		if err := os.Remove(filepath.Join(dir, "other.yaml")); err != nil {
			t.Fatal(err)
		}
		w.file(dir, "dns.yaml", strings.Replace(staticYAML, "app:1", "app:3", 1))
		w.settle(11 * time.Minute)
		w.stop()
		whole.Store(false)
		full.Store(true)
		w.file(dir, "broken.yaml", "kind: {")
		w.start()
		w.settle(11 * time.Minute)
		if got, want := w.imageNames(), []string{"app:1", "app:2", "app:3", "cluster:1", "shared:1"}; !slices.Equal(got, want) {
			t.Errorf("with a file that cannot be read: images %v, want %v\n%s", got, want, w.logText())
		}
		if err := os.Remove(filepath.Join(dir, "broken.yaml")); err != nil {
			t.Fatal(err)
		}
		w.settle(11 * time.Minute)
		if got, want := w.imageNames(), []string{"app:1", "app:3", "cluster:1", "shared:1"}; !slices.Equal(got, want) {
			t.Errorf("images %v, want %v", got, want)
		}
	})
}

// TestPullsAreListedTogether: what is pulled within a few seconds is one write, and what a container pulls anew with each start is none.
func TestPullsAreListedTogether(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.remote["app:2"], w.rt.remote["app:3"] = true, true
		path := filepath.Join(w.o.Dir, imagesFile)
		absent := func(when string) {
			t.Helper()
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s: the list is written: %v", when, err)
			}
		}
		start := func(name, image string) wire.Key {
			key, doc := podOf(name, image)
			w.put(key, doc)
			return key
		}
		start("a", "app:2")
		w.settle(imagesSettle / 2)
		absent("after a pull")
		b := start("b", "app:3")
		w.settle(imagesSettle / 4)
		absent("after another")
		w.settle(imagesSettle / 2)
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "app:2") || !strings.Contains(string(text), "app:3") {
			t.Fatalf("%s, %v", text, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		w.desired.remove(b)
		w.settle(time.Second)
		w.rt.mu.Lock()
		delete(w.rt.images, "app:3") // somebody removed it, and it is pulled anew
		w.rt.mu.Unlock()
		start("b", "app:3")
		w.settle(2 * imagesSettle)
		absent("after a pull of what is listed")
		if n := w.rt.called("PullImage"); n != 3 {
			t.Errorf("%d pulls", n)
		}
	})
}
