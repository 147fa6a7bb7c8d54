package pods

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestBindSubPath(t *testing.T) {
	dir := t.TempDir()
	volume, outside := filepath.Join(dir, "volume"), filepath.Join(dir, "outside")
	for _, d := range []string{filepath.Join(volume, "sub"), outside} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(volume, 0o770); err != nil { //nolint:gosec // the mode is what is tested
		t.Fatal(err)
	}
	for _, f := range []string{filepath.Join(volume, "file"), filepath.Join(outside, "file")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"inside": "sub", "up": "../outside", "absolute": outside, "deep": "sub/../../outside/file"} {
		if err := os.Symlink(to, filepath.Join(volume, link)); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(dir, "pod", subPathsFolder, "c", "0")
	for _, c := range []struct {
		sub    string
		create bool
		at     string // what is shown; empty: refused
	}{
		{"sub", false, "sub"}, {"file", false, "file"}, {"inside", false, "sub"},
		{"new/and/deep", true, "new/and/deep"}, {"missing", false, ""}, {"file/x", true, ""},
		{"up", true, ""}, {"absolute", true, ""}, {"deep", true, ""}, {"up/new", true, ""},
	} {
		m := &fakeMounter{dirs: map[string]int64{}}
		err := bindSubPath(m, volume, c.sub, target, c.create, true)
		if c.at == "" {
			if err == nil || len(m.binds) != 0 {
				t.Errorf("%s: shown at %v, error %v", c.sub, m.binds, err)
			}
			continue
		}
		if want := filepath.Join(volume, c.at); err != nil || m.binds[target] != want {
			t.Errorf("%s: shows %q, want %q; error %v", c.sub, m.binds[target], want, err)
		}
		here, err := os.Stat(target)
		there, err2 := os.Stat(filepath.Join(volume, c.at))
		if err != nil || err2 != nil || here.IsDir() != there.IsDir() {
			t.Errorf("%s: mount point %v %v, part %v %v", c.sub, here, err, there, err2)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside of the volume: %v %v", entries, err)
	}
	if info, err := os.Stat(filepath.Join(volume, "new")); err != nil || info.Mode().Perm() != 0o770 {
		t.Errorf("a folder that was made: %v %v, want the volume's mode", info.Mode(), err)
	}
	if err := bindSubPath(&fakeMounter{}, filepath.Join(volume, "file"), "x", target, true, true); err == nil {
		t.Error("a volume that is a file has parts")
	}
}

func TestSubPathOf(t *testing.T) {
	expand := func(s string) string { return strings.ReplaceAll(s, "$(POD)", "web-1") }
	for _, c := range []struct {
		mount corev1.VolumeMount
		want  string
		fails bool
	}{
		{corev1.VolumeMount{}, "", false},
		{corev1.VolumeMount{SubPath: "a/b..c"}, "a/b..c", false},
		{corev1.VolumeMount{SubPathExpr: "logs/$(POD)"}, "logs/web-1", false},
		{corev1.VolumeMount{SubPathExpr: "logs/$(NOBODY)"}, "", true},
		{corev1.VolumeMount{SubPath: "/etc"}, "", true},
		{corev1.VolumeMount{SubPath: "a/../b"}, "", true},
		{corev1.VolumeMount{SubPath: ".."}, "", true},
	} {
		got, err := subPathOf(&c.mount, expand)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%+v: %q, %v; want %q", c.mount, got, err, c.want)
		}
	}
}

// TestPodWithSubPath: the runtime gets the parts instead of the volumes, again after a restart of the container, and nothing is
// left mounted when the pod is gone.
func TestPodWithSubPath(t *testing.T) {
	simulate(t, func(w *world) {
		w.put(wire.Key("configmaps/default/cfg"), `{"metadata":{"name":"cfg"},"data":{"a.conf":"A"}}`)
		w.rt.programs["c"] = func(uint32) run { return run{lasts: 5 * time.Second, code: 1} }
		w.apply(`{"metadata":{},"spec":{"volumes":[{"name":"v","emptyDir":{}},{"name":"cfg","configMap":{"name":"cfg"}}],"containers":[{"name":"c","image":"app:1",
			"env":[{"name":"WHO","value":"me"}],"volumeMounts":[
			{"name":"v","mountPath":"/v","subPathExpr":"data/$(WHO)"},{"name":"cfg","mountPath":"/etc/a.conf","subPath":"a.conf"},{"name":"v","mountPath":"/all"}]}]}}`)
		w.settle(7 * time.Second)
		mounter, _ := w.o.Mount.(*fakeMounter)
		dir := filepath.Join(w.o.Dir, "u1")
		all := w.rt.byName("c")
		if len(all) != 2 {
			t.Fatalf("%d containers, want 2; log:\n%s", len(all), w.logText())
		}
		got := map[string]string{}
		for _, m := range all[1].config.Mounts {
			got[m.ContainerPath] = m.HostPath
		}
		part := filepath.Join(dir, subPathsFolder, "c")
		if got["/v"] != filepath.Join(part, "0") || got["/etc/a.conf"] != filepath.Join(part, "1") || got["/all"] != filepath.Join(dir, volumesFolder, pluginEmptyDir, "v") {
			t.Errorf("mounts %v", got)
		}
		if at := mounter.binds[filepath.Join(part, "0")]; at != filepath.Join(dir, volumesFolder, pluginEmptyDir, "v", "data", "me") {
			t.Errorf("the part is %q", at)
		}
		if at := mounter.binds[filepath.Join(part, "1")]; !strings.HasSuffix(at, "/a.conf") || strings.Contains(at, dataLink+"/") {
			t.Errorf("the file is %q, want the one that ..data leads to", at)
		}
		w.desired.remove(podKey)
		w.settle(2 * time.Minute)
		if len(mounter.binds) != 0 {
			t.Errorf("still mounted: %v", mounter.binds)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the pod's folder: %v", err)
		}
	})
}

// TestSubPathThatIsMissing waits with the reason a kubelet gives.
func TestSubPathThatIsMissing(t *testing.T) {
	simulate(t, func(w *world) {
		w.put(wire.Key("configmaps/default/cfg"), `{"metadata":{"name":"cfg"},"data":{"a.conf":"A"}}`)
		w.apply(`{"metadata":{},"spec":{"volumes":[{"name":"cfg","configMap":{"name":"cfg"}}],"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"cfg","mountPath":"/b","subPath":"b.conf"}]}]}}`)
		w.settle(3 * time.Second)
		if c := w.status().ContainerStatuses[0].State.Waiting; c == nil || c.Reason != reasonConfigError || !strings.Contains(c.Message, `subPath "b.conf"`) {
			t.Errorf("container %+v", c)
		}
	})
}

// TestSubPathPropagation: what is mounted below a part of a volume on the gateway appears in the pod only if a container asks for that.
func TestSubPathPropagation(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(`{"metadata":{},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c","image":"app:1","volumeMounts":[
			{"name":"v","mountPath":"/a","subPath":"a"},{"name":"v","mountPath":"/b","subPath":"b","mountPropagation":"None"},
			{"name":"v","mountPath":"/c","subPath":"c","mountPropagation":"HostToContainer"},{"name":"v","mountPath":"/d","subPath":"d","mountPropagation":"Bidirectional"}]}]}}`)
		w.settle(3 * time.Second)
		mounter, _ := w.o.Mount.(*fakeMounter)
		part := filepath.Join(w.o.Dir, "u1", subPathsFolder, "c")
		for i, private := range []bool{true, true, false, false} {
			if at := filepath.Join(part, strconv.Itoa(i)); mounter.binds[at] == "" || mounter.private[at] != private {
				t.Errorf("part %d is %q, private %v", i, mounter.binds[at], mounter.private[at])
			}
		}
	})
}
