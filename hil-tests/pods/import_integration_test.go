//go:build integration

package pods_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	gcrname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/skerry/skerry/firmware/containerd"
	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/images"
	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/wire"
	rigimages "github.com/skerry/skerry/hil-tests/rig/images"
)

// testImport imports images that no registry has: from a docker save and from an OCI layout for several platforms. Pods run from them by
// name and by digest, and a full disk does not take them away.
func testImport(t *testing.T, w *world) {
	im := &images.Importer{
		Runtime: w.rt.Client(), Store: containerd.New(w.rt.Client()), Spool: t.TempDir(),
		Note: func(list map[string]string) error { return pods.NoteImported(filepath.Join(w.dir, "pods"), list) },
	}
	const saved, multi = "registry.example.org/air/saved:1", "registry.example.org/air/multi:1"
	importTar(t, im, dockerSave(t, sampleImage(t, w, runtime.GOARCH, "SAMPLE_VERSION=71"), saved))
	index, path := ociLayout(t, w, multi)
	importTar(t, im, path)
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string]string{"im-saved": saved, "im-multi": multi, "im-pinned": "registry.example.org/air/multi@" + digest.String()} {
		key := wire.Key("pods/default/" + name + "/" + name)
		spec := `{"containers":[{"name":"c","image":"` + image + `","imagePullPolicy":"IfNotPresent","args":["sleep"]}]}`
		w.put(key, pod(spec))
		w.await(key, "running", running)
		w.put(key, deleting(spec, "1"))
		w.gone(key, 15*time.Second)
	}
	w.full.Store(true)
	time.Sleep(3 * time.Second) // three looks at the disk
	w.full.Store(false)
	for _, ref := range []string{saved, multi} {
		if s, err := w.rt.Client().ImageStatus(t.Context(), &cri.ImageSpec{Image: ref}, false); err != nil || s.Image == nil {
			t.Errorf("%s was removed: %v", ref, err)
		}
	}
	importTar(t, im, path) // again: nothing to do, and no error

	damaged, err := os.ReadFile(dockerSave(t, sampleImage(t, w, runtime.GOARCH, "SAMPLE_VERSION=73"), "registry.example.org/air/damaged:1"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 { // a single bit may change nothing: deflate knows several ways to say the same
		damaged[len(damaged)/2+i] ^= 0x55
	}
	bad := filepath.Join(t.TempDir(), "bad.tar")
	if err := os.WriteFile(bad, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(bad)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if _, err := im.Import(t.Context(), f, images.Options{Platform: images.Host()}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
	if s, err := w.rt.Client().ImageStatus(t.Context(), &cri.ImageSpec{Image: "registry.example.org/air/damaged:1"}, false); err != nil || s.Image != nil {
		t.Errorf("a damaged image was imported: %+v, %v", s, err)
	}
}

func importTar(t *testing.T, im *images.Importer, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	begin := time.Now()
	list, err := im.Import(t.Context(), f, images.Options{Platform: images.Host()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("imported %s (%d bytes) in %v", list[0].Name, list[0].Size(), time.Since(begin).Round(time.Millisecond))
}

// sampleImage is the sample program as an image that says it is for arch.
func sampleImage(t *testing.T, w *world, arch, env string) v1.Image {
	t.Helper()
	image, err := rigimages.FromBinary(filepath.Join(w.dir, "images", runtime.GOARCH, "sample"), arch, env)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func dockerSave(t *testing.T, image v1.Image, name string) string {
	t.Helper()
	tag, err := gcrname.NewTag(name)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		t.Fatal(err)
	}
	return path
}

func ociLayout(t *testing.T, w *world, name string) (v1.ImageIndex, string) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"riscv64", runtime.GOARCH, "s390x"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: sampleImage(t, w, arch, "SAMPLE_VERSION=72"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = l.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": name}))
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layout.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	tw := tar.NewWriter(f)
	if err := tw.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return index, path
}
