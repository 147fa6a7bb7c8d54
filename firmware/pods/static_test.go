package pods

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

const staticYAML = `
apiVersion: v1
kind: Pod
metadata:
  name: dns
  namespace: kube-system
  creationTimestamp: null
spec:
  containers:
    - name: dns
      image: app:1
`

// staticWorld starts a manager with a folder of static pods.
func staticWorld(w *world) (dir string) {
	w.stop()
	dir = filepath.Join(filepath.Dir(w.o.Dir), "static")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		w.t.Fatal(err)
	}
	w.o.StaticDir = dir
	return dir
}

// file replaces a file of the folder, as an editor does. Each has a time of its own.
func (w *world) file(dir, name, text string) {
	w.t.Helper()
	tmp := filepath.Join(dir, "."+name)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	if err := os.Chtimes(tmp, now, now); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// requested returns the key under which the relay is asked for the mirror of a pod, "" if it is not.
func (w *world) requested() (key wire.Key, manifest map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, body := range w.reports {
		v, err := canon.ToValue(body)
		if err != nil {
			w.t.Fatal(err)
		}
		if m, ok := v.(map[string]any)["mirror"].(map[string]any); ok {
			return k, m
		}
	}
	return "", nil
}

// TestStaticPod: a pod from a file runs without a relay; the relay is asked for a mirror, and hears the pod's status under the mirror's
// name; a mirror that is deleted is made again, and the pod goes on.
func TestStaticPod(t *testing.T) {
	simulate(t, func(w *world) {
		dir := staticWorld(w)
		w.file(dir, "dns.yaml", staticYAML)
		w.start()
		w.settle(2 * time.Second)
		if list := w.rt.byName("dns"); len(list) != 1 {
			t.Fatalf("containers %+v\n%s", list, w.logText())
		}
		key, manifest := w.requested()
		if key.Name() != "dns-gw-1" || key.Namespace() != "kube-system" || len(key.UID()) != uidDigits {
			t.Fatalf("request %s", key)
		}
		annotations := manifest["metadata"].(map[string]any)["annotations"].(map[string]any)
		if annotations[annoConfigHash] != key.UID() || annotations[annoConfigSource] != "file" || manifest["spec"].(map[string]any)["nodeName"] != "gw-1" {
			t.Errorf("manifest %+v", manifest)
		}
		mirror := func(uid, more string) wire.Key {
			k := wire.NewKey(wire.KindPod, "kube-system", "dns-gw-1", uid)
			w.put(k, `{"metadata":{"name":"dns-gw-1","namespace":"kube-system","uid":"`+uid+`",`+more+`"annotations":{"`+annoMirror+`":"`+key.UID()+`"}},"spec":{"containers":[{"name":"dns","image":"app:1"}]}}`)
			w.settle(2 * time.Second)
			return k
		}
		first := mirror("m1", "")
		if r := w.report(first); r.Status == nil || r.Status.Phase != phaseRunning {
			t.Errorf("the mirror's status is %+v", r)
		}
		if again, _ := w.requested(); again != "" {
			t.Error("the mirror is asked for though it is there")
		}
		mirror("m1", `"deletionTimestamp":"2026-01-01T00:00:00Z",`)
		if r := w.report(first); !r.Deleted {
			t.Errorf("the deleted mirror is not given up: %+v", r)
		}
		w.desired.remove(first)
		w.settle(2 * time.Second)
		if again, _ := w.requested(); again != key {
			t.Errorf("the mirror is not asked for again: %q", again)
		}
		second := mirror("m2", "")
		if r := w.report(second); r.Status == nil || r.Status.Phase != phaseRunning {
			t.Errorf("the new mirror's status is %+v", r)
		}
		if list := w.rt.byName("dns"); len(list) != 1 || len(w.rt.stopped()) != 0 {
			t.Errorf("the pod was disturbed: %+v", list)
		}
		w.stop()
		w.start()
		w.settle(5 * time.Second)
		if list := w.rt.byName("dns"); len(list) != 1 || len(w.rt.stopped()) != 0 {
			t.Errorf("the pod was disturbed by a restart of the agent: %+v", list)
		}
		if err := os.Remove(filepath.Join(dir, "dns.yaml")); err != nil {
			t.Fatal(err)
		}
		w.settle(staticPeriod + 5*time.Second)
		if list := w.rt.byName("dns"); len(list) != 0 {
			t.Errorf("it goes on without its file: %+v", list)
		}
		if r := w.report(second); !r.Deleted {
			t.Errorf("its mirror is not given up: %+v", r)
		}
	})
}

// TestStaticPodChanges: another content is another pod; a file that cannot be read changes nothing, and is told of once.
func TestStaticPodChanges(t *testing.T) {
	simulate(t, func(w *world) {
		dir := staticWorld(w)
		w.file(dir, "dns.yaml", staticYAML)
		w.file(dir, "other.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"other"},"spec":{"containers":[{"name":"other","image":"app:1"}]}}`)
		w.file(dir, "notes.txt", "not a pod")
		w.start()
		w.settle(2 * time.Second)
		before := w.rt.byName("dns")[0].config.Labels[labelPodUID]
		w.file(dir, "dns.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {na")
		w.file(dir, "third.yaml", "apiVersion: v1\nkind: Secret\n")
		w.settle(3 * staticPeriod)
		if list := w.rt.byName("dns"); len(list) != 1 || list[0].config.Labels[labelPodUID] != before {
			t.Errorf("a bad file ended its pod: %+v", list)
		}
		if len(w.rt.byName("other")) != 1 {
			t.Error("a bad file ended another pod")
		}
		if n := strings.Count(w.logText(), "static pod's file cannot be used"); n != 2 {
			t.Errorf("said %d times:\n%s", n, w.logText())
		}
		if e := w.event(reasonStatic); e == nil || e.ref != "Node/gw-1 " || !strings.Contains(e.message, dir) {
			t.Errorf("event %+v", e)
		}
		w.file(dir, "dns.yaml", strings.Replace(staticYAML, "app:1", "app:2", 1))
		w.settle(staticPeriod + 5*time.Second)
		list := w.rt.byName("dns")
		if len(list) != 1 || list[0].config.Labels[labelPodUID] == before || list[0].config.Image.UserSpecifiedImage != "app:2" {
			t.Errorf("containers %+v", list)
		}
	})
}

// TestForeignMirror: a pod of the cluster cannot become static by its annotations, and a mirror of nothing is given up, not run.
func TestForeignMirror(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(strings.Replace(simplePod, `"generation":2`, `"annotations":{"`+annoMirror+`":"x"}`, 1))
		w.settle(3 * time.Second)
		if len(w.rt.byName("c")) != 0 || !w.report(podKey).Deleted {
			t.Errorf("a mirror was run: %+v", w.report(podKey))
		}
		w.put("pods/default/own/u2", `{"metadata":{"name":"own","namespace":"default","uid":"u2","annotations":{"`+annoConfigSource+`":"file"}},"spec":{"containers":[{"name":"own","image":"app:1"}]}}`)
		w.settle(3 * time.Second)
		for _, d := range w.m.activePods() {
			if d.critical() {
				t.Errorf("%s is spared because it says so", d.key)
			}
		}
	})
}

func TestParseStatic(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"two":       {staticYAML + "---\nkind: Pod\n", "more than one"},
		"kind":      {"apiVersion: apps/v1\nkind: Deployment\n", "only kind Pod"},
		"no name":   {"apiVersion: v1\nkind: Pod\nspec: {}\n", "metadata.name"},
		"text":      {"hello", "neither YAML nor JSON"},
		"secret":    {staticYAML + "  volumes: [{name: s, secret: {secretName: s}}]\n", "cannot use configMaps, secrets"},
		"account":   {staticYAML + "  serviceAccountName: admin\n", "service accounts"},
		"slash":     {strings.Replace(staticYAML, "name: dns", "name: a/b", 1), "metadata.name"},
		"too large": {staticYAML + "#" + strings.Repeat("x", maxStaticFile), "more than"},
	} {
		if _, err := parseStatic([]byte(c.text), "/p", "gw-1", time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a, err := parseStatic([]byte(staticYAML), "/p", "gw-1", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := parseStatic([]byte(staticYAML), "/p", "gw-1", time.Unix(2, 0))
	if err != nil || a.object.Key != b.object.Key {
		t.Errorf("the UID depends on when the file was seen: %v %v %v", a.object.Key, b.object.Key, err)
	}
	if c, err := parseStatic([]byte(staticYAML), "/q", "gw-1", time.Unix(1, 0)); err != nil || c.object.Key == a.object.Key {
		t.Errorf("two files have the same UID: %v", err)
	}
	if !tolerates(&a.pod.Spec.Tolerations[0], &corev1.Taint{Key: "x", Effect: "NoExecute"}) {
		t.Errorf("tolerations %+v", a.pod.Spec.Tolerations)
	}
}

func FuzzParseStatic(f *testing.F) {
	f.Add([]byte(staticYAML))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parseStatic(text, "/p", "gw-1", time.Unix(1, 0))
		if err == nil && (canon.Check(p.object.Body) != nil || canon.Check(p.request) != nil || !safeName(p.object.Key.UID())) {
			t.Errorf("made %+v", p)
		}
	})
}

// TestStaticPodBeforeTheCluster: a gateway that has never heard of a cluster follows the changes of its files, those that were made while the agent
// was down, too; and a folder that cannot be read ends nothing.
func TestStaticPodBeforeTheCluster(t *testing.T) {
	simulate(t, func(w *world) {
		dir := staticWorld(w)
		w.o.Complete = func() bool { return false }
		w.file(dir, "dns.yaml", staticYAML)
		w.start()
		w.settle(2 * time.Second)
		first := w.rt.byName("dns")
		if len(first) != 1 {
			t.Fatalf("containers %+v", first)
		}
		w.file(dir, "dns.yaml", staticYAML+"  terminationGracePeriodSeconds: 1\n")
		w.settle(staticPeriod + 20*time.Second)
		second := w.rt.byName("dns")
		if len(second) != 1 || second[0].id == first[0].id {
			t.Fatalf("after a change of the file: %+v", second)
		}
		w.stop()
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // no folder
			t.Fatal(err)
		}
		w.start()
		w.settle(30 * time.Second)
		if list := w.rt.byName("dns"); len(list) != 1 || list[0].id != second[0].id {
			t.Errorf("a folder that cannot be read: %+v", list)
		}
		w.stop()
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.settle(30 * time.Second)
		if list := w.rt.byName("dns"); len(list) != 0 {
			t.Errorf("without a file: %+v", list)
		}
	})
}
