package pods

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testVolumes(t *testing.T, d *desiredPod) (*volumes, *fakeMounter) {
	t.Helper()
	m := &fakeMounter{dirs: map[string]int64{}}
	return &volumes{dir: t.TempDir(), refs: testRefs(t), facts: &facts{pod: &d.pod, node: "gw-1"}, mount: m, csi: noCSI{}}, m
}

func TestVolumes(t *testing.T) {
	host := t.TempDir()
	d := decode(t, `{"containers":[{"name":"c","image":"app:1","resources":{"limits":{"memory":"64Mi"}}}],"volumes":[
	{"name":"cm","configMap":{"name":"c","items":[{"key":"a","path":"deep/er/a","mode":256},{"key":"b","path":"b"}]}},
	{"name":"sec","secret":{"secretName":"s","defaultMode":256}},
	{"name":"opt","configMap":{"name":"none","optional":true}},
	{"name":"proj","projected":{"sources":[{"configMap":{"name":"c"}},{"secret":{"name":"s","items":[{"key":"p","path":"pw"}]}},{"downwardAPI":{"items":[{"path":"labels","fieldRef":{"fieldPath":"metadata.labels"}},{"path":"mem","resourceFieldRef":{"containerName":"c","resource":"limits.memory"}}]}}]}},
	{"name":"disk","emptyDir":{}},{"name":"ram","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}},
	{"name":"host","hostPath":{"path":"`+host+`/new","type":"DirectoryOrCreate"}}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	v, mounter := testVolumes(t, d)
	for range 2 { // the second time finds everything in place
		paths, err := v.prepare(&d.pod.Spec)
		if err != nil {
			t.Fatal(err)
		}
		for file, want := range map[string]string{
			"cm/deep/er/a": "1", "cm/b": "2", "sec/p": "pw", "proj/a": "1", "proj/pw": "pw", "proj/labels": `app="web"`, "proj/mem": "67108864",
		} {
			vol, name, _ := strings.Cut(file, "/")
			if b, err := os.ReadFile(filepath.Join(paths[vol], name)); err != nil || string(b) != want {
				t.Errorf("%s: %q, %v", file, b, err)
			}
		}
		if info, err := os.Stat(filepath.Join(paths["cm"], "deep/er/a")); err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("mode %v, %v", info, err)
		}
		if info, err := os.Stat(filepath.Join(paths["sec"], "p")); err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("mode %v, %v", info, err)
		}
		if info, err := os.Stat(paths["disk"]); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("mode %v, %v", info, err)
		}
		if info, err := os.Stat(paths["host"]); err != nil || !info.IsDir() {
			t.Errorf("hostPath: %v", err)
		}
		if mounter.dirs[paths["ram"]] != 1<<20 {
			t.Errorf("tmpfs %v", mounter.dirs)
		}
		for name, want := range map[string]bool{"cm": false, "sec": true, "proj": true, "disk": false} {
			if _, inMemory := mounter.dirs[paths[name]]; inMemory != want {
				t.Errorf("volume %q is in memory: %t", name, inMemory)
			}
		}
	}
	// What a container made of its emptyDir stays.
	if err := os.Chmod(filepath.Join(v.dir, "volumes", pluginEmptyDir, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	if paths, err := v.prepare(&d.pod.Spec); err != nil {
		t.Error(err)
	} else if info, err := os.Stat(paths["disk"]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info, err)
	}
	if err := removePodDir(v.dir, mounter); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.dir); !os.IsNotExist(err) || len(mounter.dirs) != 0 {
		t.Errorf("left: %v %v", err, mounter.dirs)
	}
}

// TestMounts: a container must not be able to write where the agent writes.
func TestMounts(t *testing.T) {
	d := decode(t, `{"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"cm","mountPath":"/1"},{"name":"sec","mountPath":"/2"},
	{"name":"proj","mountPath":"/3"},{"name":"down","mountPath":"/4"},{"name":"disk","mountPath":"/5"},{"name":"host","mountPath":"/6"},{"name":"disk","mountPath":"/7","readOnly":true}]}],
	"volumes":[{"name":"cm","configMap":{"name":"c"}},{"name":"sec","secret":{"secretName":"s"}},{"name":"proj","projected":{"sources":[{"configMap":{"name":"c"}}]}},
	{"name":"down","downwardAPI":{"items":[{"path":"n","fieldRef":{"fieldPath":"metadata.name"}}]}},{"name":"disk","emptyDir":{}},{"name":"host","hostPath":{"path":"/h"}}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	list, err := (&launch{pod: &d.pod, container: &d.pod.Spec.Containers[0]}).mounts()
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range list {
		if want := i < 4 || i == 6; m.Readonly != want {
			t.Errorf("%s: read-only %t", m.ContainerPath, m.Readonly)
		}
	}
}

func TestVolumeFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, vol := range map[string]string{
		`configmap "none" not found as of revision 12`:       `{"name":"v","configMap":{"name":"none"}}`,
		`no such path on this gateway (type Directory)`:      `{"name":"v","hostPath":{"path":"` + dir + `/no","type":"Directory"}}`,
		`is not of type Directory`:                           `{"name":"v","hostPath":{"path":"` + file + `","type":"Directory"}}`,
		`is not of type Socket`:                              `{"name":"v","hostPath":{"path":"` + file + `","type":"Socket"}}`,
		`type "Folder" is unknown`:                           `{"name":"v","hostPath":{"path":"` + file + `","type":"Folder"}}`,
		`has no key "zz"`:                                    `{"name":"v","configMap":{"name":"c","items":[{"key":"zz","path":"z"}]}}`,
		`"../out" is not a relative path inside the volume`:  `{"name":"v","configMap":{"name":"c","items":[{"key":"a","path":"../out"}]}}`,
		`"/etc/out" is not a relative path`:                  `{"name":"v","configMap":{"name":"c","items":[{"key":"a","path":"/etc/out"}]}}`,
		`"..data" is not a relative path inside the volume`:  `{"name":"v","configMap":{"name":"c","items":[{"key":"a","path":"..data"}]}}`,
		`"a/../../out" is not a relative path inside the vo`: `{"name":"v","configMap":{"name":"c","items":[{"key":"a","path":"a/../../out"}]}}`,
	} {
		d := decode(t, `{"containers":[{"name":"c","image":"app:1"}],"volumes":[`+vol+`]}`)
		v, _ := testVolumes(t, d)
		if _, err := v.prepare(&d.pod.Spec); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `volume "v": `) {
			t.Errorf("%s: %v", want, err)
		}
	}
	short, err := os.MkdirTemp("", "s") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short) //nolint:errcheck // a test's folder
	l, err := net.Listen("unix", short+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's socket
	for kind, path := range map[string]string{"": dir + "/no", "File": file, "FileOrCreate": dir + "/made", "CharDevice": "/dev/null", "Directory": dir, "Socket": short + "/s"} {
		d := decode(t, `{"containers":[{"name":"c","image":"app:1"}],"volumes":[{"name":"v","hostPath":{"path":"`+path+`","type":"`+kind+`"}}]}`)
		v, _ := testVolumes(t, d)
		if _, err := v.prepare(&d.pod.Spec); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestPayloadIsAtomic: the content changes by the renaming of one link, and nothing of the old content stays.
func TestPayloadIsAtomic(t *testing.T) {
	dir := t.TempDir()
	write := func(p payload) bool {
		t.Helper()
		changed, err := writePayload(dir, p, -1)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	first := payload{"a": {data: []byte("1"), mode: 0o644}, "d/x": {data: []byte("x"), mode: 0o600}}
	if !write(first) || write(first) {
		t.Fatal("changes are not told apart")
	}
	before, _ := os.Readlink(filepath.Join(dir, dataLink))
	if !write(payload{"a": {data: []byte("2"), mode: 0o644}}) {
		t.Fatal("a change was missed")
	}
	after, _ := os.Readlink(filepath.Join(dir, dataLink))
	if before == after {
		t.Error("the content was changed in place")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 { // ..data, its folder, a
		t.Errorf("%v %v", entries, err)
	}
	if !write(payload{"a": {data: []byte("2"), mode: 0o600}}) {
		t.Error("another mode is no change")
	}
	if !write(payload{}) {
		t.Error("an empty volume is no change")
	}
}

func TestTailLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	text := "2026-01-01T00:00:00.0Z stdout F first\n2026-01-01T00:00:00.0Z stderr P sec\n2026-01-01T00:00:00.0Z stderr F ond\nbroken\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailLog(path, 2048); got != "first\nsecond\n" {
		t.Errorf("%q", got)
	}
	if got := tailLog(path, 4); got != "ond\n" {
		t.Errorf("%q", got)
	}
	if got := tailLog(path+"x", 4); got != "" {
		t.Errorf("%q", got)
	}
}

func TestKeepStatus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "u1")
	if loadStatus(dir) != nil {
		t.Fatal("a status from nowhere")
	}
	in := &statusInput{pod: &decode(t, `{"containers":[{"name":"c"}]}`).pod, obs: new(observation)}
	s := makeStatus(in)
	if err := saveStatus(dir, s); err != nil {
		t.Fatal(err)
	}
	if got := loadStatus(dir); got == nil || got.Phase != s.Phase || len(got.Conditions) != 4 {
		t.Errorf("%+v", got)
	}
	file := filepath.Join(dir, statusFile)
	if err := os.Truncate(file, 10); err != nil {
		t.Fatal(err)
	}
	if loadStatus(dir) != nil {
		t.Error("half a status was believed")
	}
}
