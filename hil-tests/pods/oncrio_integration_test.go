//go:build integration && crio

package pods_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/rig/containerd"
	"github.com/skerry/skerry/hil-tests/rig/images"
)

// TestPodsOnCRIO runs the same cases on the CRI-O that `make crio` builds, and those that are about it alone; `make conformance-crio` says where it is.
func TestPodsOnCRIO(t *testing.T) {
	path := os.Getenv("SKERRY_CRIO")
	if path == "" {
		t.Fatal("SKERRY_CRIO names no CRI-O: make conformance-crio builds one, and runs this")
	}
	w := newWorld(t, containerd.Options{CRIO: path})
	t.Run("registries", func(t *testing.T) { w.t = t; testCRIORegistries(t, w) })
	runCases(t, w, map[string]string{
		"images are imported":     "there is no call for it: podman load does it (docs/images.md)",
		"gRPC probe":              "the case asks containerd's own health service; CRI-O has none",
		"what the runtime cannot": "it can: image volumes, recursive read-only mounts",
		"security":                "it can: supplementalGroupsPolicy Strict",
	})
}

// testCRIORegistries: a registry that is away, one whose CA is not known, and the same once its CA is where docs/runtimes.md has it.
func testCRIORegistries(t *testing.T, w *world) {
	ip, remove, err := images.Address(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = remove() }()
	ca, err := images.NewCA("plant")
	if err != nil {
		t.Fatal(err)
	}
	reg, err := w.reg.Serve(images.Front{IP: ip, CA: ca, Users: map[string]string{"plant": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	login := base64.StdEncoding.EncodeToString([]byte(`{"auths":{"` + reg.Addr() + `":{"username":"plant","password":"secret"}}}`))
	w.put("secrets/default/plant", `{"data":{".dockerconfigjson":"`+login+`"}}`)
	want := func(name, image string) (wire.Key, string) {
		spec := `{"imagePullSecrets":[{"name":"plant"}],"containers":[{"name":"c","image":"` + image + `","imagePullPolicy":"IfNotPresent","args":["sleep"]}]}`
		key := wire.Key("pods/default/" + name + "/" + name)
		w.put(key, pod(spec))
		return key, spec
	}
	end := func(key wire.Key, spec string) {
		w.put(key, deleting(spec, "1"))
		w.gone(key, 15*time.Second)
	}
	away, spec := want("away", ip+":1/app:1")
	w.await(away, "waits", waits("RegistryUnavailable", "cannot be reached from this gateway"))
	w.await(away, "backs off", waits("ImagePullBackOff", "RegistryUnavailable: "))
	end(away, spec)
	stranger, spec := want("stranger", reg.Ref("sample:1"))
	w.await(stranger, "waits", waits("ImagePullBackOff", "/etc/containers/certs.d/"+reg.Addr()+"/ca.crt"))
	end(stranger, spec)
	dir := filepath.Join(w.rt.CertsDir(), reg.Addr())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca.PEM, 0o644); err != nil {
		t.Fatal(err)
	}
	known, spec := want("known", reg.Ref("sample:1"))
	w.await(known, "running", running)
	end(known, spec)
}
