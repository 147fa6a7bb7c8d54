package kube

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skerry/skerry/firmware/wire"
)

const podOnGW1 = `{"metadata":{"name":"web","namespace":"default","uid":"p1"},"spec":{"nodeName":"gw-1",
	"volumes":[{"name":"v","configMap":{"name":"cfg"}},{"name":"s","secret":{"secretName":"tls","optional":true}}]}}`

func (b *bench) keys(node string) []wire.Key {
	b.t.Helper()
	keys, ready := b.index.Keys(node)
	if !ready {
		b.t.Fatalf("index is not ready: %v", func() []string { _, p := b.index.Ready(); return p }())
	}
	return slices.Sorted(maps.Keys(keys))
}

// listen subscribes and returns a function that gives what was notified since its last call, sorted and each once.
func (b *bench) listen(node string) (heard func() []wire.Key, cancel func()) {
	var mu sync.Mutex
	got := map[wire.Key]bool{}
	cancel = b.index.Subscribe(node, func(k wire.Key) {
		mu.Lock()
		defer mu.Unlock()
		got[k] = true
	})
	return func() []wire.Key {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		keys := slices.Sorted(maps.Keys(got))
		clear(got)
		return keys
	}, cancel
}

func expectKeys(t *testing.T, what string, got []wire.Key, want ...wire.Key) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestNodeSeesItsOwnAndWhatThatReferences(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindNode, `{"metadata":{"name":"gw-1"}}`)
		b.api.put(t, wire.KindNode, `{"metadata":{"name":"gw-2"}}`)
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"},"data":{"a":"1"}}`)
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"other","namespace":"default"}}`)
		b.api.put(t, wire.KindPod, podOnGW1)
		b.api.put(t, wire.KindDevice, `{"metadata":{"name":"pump","namespace":"default"},"spec":{"nodeName":"gw-1","deviceModelRef":{"name":"m"}}}`)
		b.api.put(t, wire.KindDeviceModel, `{"metadata":{"name":"m","namespace":"default"}}`)
		synctest.Wait()

		expectKeys(t, "gw-1", b.keys("gw-1"), "nodes//gw-1", "pods/default/web/p1", "configmaps/default/cfg", "secrets/default/tls",
			"devices/default/pump", "devicemodels/default/m")
		expectKeys(t, "gw-2", b.keys("gw-2"), "nodes//gw-2")
		expectKeys(t, "unknown node", b.keys("gw-9"))

		keys, _ := b.index.Keys("gw-1")
		if v := keys["secrets/default/tls"]; v != wire.AbsentVersion() {
			t.Errorf("missing secret has version %+v", v)
		}
		obj, refs, ok := b.index.Object("gw-1", "pods/default/web/p1")
		if !ok || obj.Version != keys[obj.Key] || obj.Version != wire.BodyVersion("p1", obj.Body) || obj.Revision == 0 {
			t.Errorf("pod is %+v, %v; listed as %+v", obj, ok, keys[obj.Key])
		}
		expectKeys(t, "pod's references", refs, "configmaps/default/cfg", "secrets/default/tls")
		absent, _, ok := b.index.Object("gw-1", "secrets/default/tls")
		if !ok || !absent.Absent || absent.Revision != b.index.Revisions()[wire.KindSecret] || len(absent.Body) > 0 {
			t.Errorf("missing secret is %+v, %v", absent, ok)
		}
		for _, key := range []wire.Key{"configmaps/default/other", "nodes//gw-2", "secrets/default/unknown"} {
			if _, _, ok := b.index.Object("gw-1", key); ok {
				t.Errorf("gw-1 may read %s", key)
			}
		}
		if _, _, ok := b.index.Object("gw-2", "configmaps/default/cfg"); ok {
			t.Error("gw-2 may read gw-1's configMap")
		}
	})
}

func TestNotifiesWhomItConcerns(t *testing.T) {
	withBench(t, func(b *bench) {
		one, cancelOne := b.listen("gw-1")
		two, cancelTwo := b.listen("gw-2")
		defer cancelTwo()

		b.api.put(t, wire.KindPod, podOnGW1)
		expectKeys(t, "new pod", one(), "pods/default/web/p1", "configmaps/default/cfg", "secrets/default/tls")
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"},"data":{"a":"1"}}`)
		expectKeys(t, "configMap appears", one(), "configmaps/default/cfg")
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"},"data":{"a":"2"}}`)
		expectKeys(t, "configMap changes", one(), "configmaps/default/cfg")
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"other"},"data":{"a":"2"}}`)
		expectKeys(t, "configMap of another namespace", one())
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Running"},"spec"`, 1))
		expectKeys(t, "status of the pod", one())
		b.api.remove(wire.KindConfigMap, "default/cfg")
		expectKeys(t, "configMap goes", one(), "configmaps/default/cfg")
		b.api.remove(wire.KindPod, "default/web")
		expectKeys(t, "pod goes", one(), "pods/default/web/p1", "configmaps/default/cfg", "secrets/default/tls")
		expectKeys(t, "gw-1 is left with", b.keys("gw-1"))
		expectKeys(t, "gw-2 heard", two())

		device := `{"metadata":{"name":"pump","namespace":"default","uid":"d"},"spec":{"nodeName":"gw-1","deviceModelRef":{"name":"m"}}}`
		b.api.put(t, wire.KindDevice, device)
		expectKeys(t, "device", one(), "devices/default/pump", "devicemodels/default/m")
		b.api.put(t, wire.KindDevice, strings.Replace(device, "gw-1", "gw-2", 1))
		expectKeys(t, "device leaves gw-1", one(), "devices/default/pump", "devicemodels/default/m")
		expectKeys(t, "device comes to gw-2", two(), "devices/default/pump", "devicemodels/default/m")
		expectKeys(t, "gw-1 holds", b.keys("gw-1"))
		expectKeys(t, "gw-2 holds", b.keys("gw-2"), "devices/default/pump", "devicemodels/default/m")

		cancelOne()
		b.api.put(t, wire.KindPod, podOnGW1)
		expectKeys(t, "after cancel", one())
	})
}

func TestPodMadeAnewIsAnotherKey(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		b.api.remove(wire.KindPod, "default/web")
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"p1"`, `"p2"`, 1))
		synctest.Wait()
		expectKeys(t, "gw-1", b.keys("gw-1"), "pods/default/web/p2", "configmaps/default/cfg", "secrets/default/tls")
	})
}

func TestNothingBeforeAllCachesAreComplete(t *testing.T) {
	withBench(t, func(b *bench) {
		fresh := NewIndex(b.index.opts)
		heard := map[wire.Key]bool{}
		fresh.Subscribe("gw-1", func(k wire.Key) { heard[k] = true })
		res, _ := resourceOf(wire.KindPod)
		pod, err := newRecord(res, decode(t, res, strings.Replace(podOnGW1, `"uid"`, `"resourceVersion":"7","uid"`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resources[1:] {
			records := []*record{}
			if r.kind == wire.KindPod {
				records = append(records, pod)
			}
			fresh.replaceAll(r.kind, records, nil, 9)
			if _, ready := fresh.Keys("gw-1"); ready {
				t.Fatal("ready although nodes have not been listed")
			}
			if _, _, ok := fresh.Object("gw-1", "configmaps/default/cfg"); ok {
				t.Fatal("a missing configMap is called absent although nodes have not been listed")
			}
		}
		if ready, problems := fresh.Ready(); ready || len(problems) != 1 || !strings.HasPrefix(problems[0], "nodes: ") {
			t.Errorf("Ready is %v, %q", ready, problems)
		}
		clear(heard)
		fresh.replaceAll(wire.KindNode, nil, nil, 9)
		if !heard["pods/default/web/p1"] || !heard["configmaps/default/cfg"] {
			t.Errorf("a waiting session was told of %v only", heard)
		}
	})
}

func TestRelistForgetsWhatIsGone(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		heard, cancel := b.listen("gw-1")
		defer cancel()
		heard()
		b.index.replaceAll(wire.KindPod, nil, nil, 5) // older than what was seen: the cluster was restored
		expectKeys(t, "heard", heard(), "pods/default/web/p1", "configmaps/default/cfg", "secrets/default/tls")
		expectKeys(t, "holds", b.keys("gw-1"))
		if rev := b.index.Revisions()[wire.KindPod]; rev != 5 {
			t.Errorf("revision is %d, want the restored cluster's 5", rev)
		}
	})
}

// TestAnswerToAWriteDoesNotRaiseTheDead: an answer may reach us after the deletion that followed it.
func TestAnswerToAWriteDoesNotRaiseTheDead(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		rec := b.index.get("pods/default/web/p1")
		b.api.remove(wire.KindPod, "default/web")
		synctest.Wait()
		b.index.refresh(wire.KindPod, rec)
		expectKeys(t, "holds", b.keys("gw-1"))
	})
}

// TestAnswerToAWriteIsNoProgressOfTheWatch: between the watch's position and our own write there may be a pod that an agent
// learned of through another relay. Were the write's resourceVersion counted, this relay would believe that it has caught up
// with that agent, and take the pod away.
func TestAnswerToAWriteIsNoProgressOfTheWatch(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		before := b.index.Revisions()[wire.KindPod]
		answer := *b.index.get("pods/default/web/p1")
		answer.rv, answer.revision = "900", 900
		b.index.refresh(wire.KindPod, &answer)
		if got := b.index.Revisions()[wire.KindPod]; got != before {
			t.Errorf("the cache claims to have seen revision %d, the watch has shown %d", got, before)
		}
		if rec := b.index.get("pods/default/web/p1"); rec.rv != "900" {
			t.Errorf("the next write would be based on %s", rec.rv)
		}
	})
}

// TestObjectThatCannotBeEncodedStays: agents keep what they have of it, after a new list too.
func TestObjectThatCannotBeEncodedStays(t *testing.T) {
	withBench(t, func(b *bench) {
		device := `{"metadata":{"name":"pump","namespace":"default","uid":"d"},"spec":{"nodeName":"gw-1","protocol":{"configData":X}}}`
		b.api.put(t, wire.KindDevice, strings.Replace(device, "X", "{}", 1))
		synctest.Wait()
		b.api.put(t, wire.KindDevice, strings.Replace(device, "X", strings.Repeat(`{"a":`, 80)+"1"+strings.Repeat("}", 80), 1))
		synctest.Wait()
		expectKeys(t, "after the change", b.keys("gw-1"), "devices/default/pump")
		for _, w := range b.api.watchers[devicesGVR] {
			w.Error(&apierrors.NewResourceExpired("too old").ErrStatus)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		expectKeys(t, "after a new list", b.keys("gw-1"), "devices/default/pump")
	})
}

func TestBrokenWatchIsExplainedAndRetried(t *testing.T) {
	withBench(t, func(b *bench) {
		missing := true
		b.api.failWith(func(verb, resource, _ string) error {
			if verb == "list" && resource == "devices" && missing {
				return apierrors.NewNotFound(schema.GroupResource{Group: devicesGroup, Resource: resource}, "")
			}
			return nil
		})
		fresh := NewIndex(b.index.opts)
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(b.t.Context())
		go func() { _ = fresh.Run(ctx); close(done) }()
		time.Sleep(time.Minute)
		_, problems := fresh.Ready()
		if len(problems) != 1 || !strings.Contains(problems[0], "skerryctl init") {
			t.Errorf("problems are %q", problems)
		}
		b.api.failWith(nil)
		time.Sleep(time.Minute)
		if ready, problems := fresh.Ready(); !ready {
			t.Errorf("not ready after the definitions are there: %q", problems)
		}
		cancel()
		<-done
	})
	for text, err := range map[string]error{
		"skerryctl init":  apierrors.NewNotFound(schema.GroupResource{}, ""),
		"does not answer": errors.New("connection refused"),
		"ServiceAccount":  apierrors.NewForbidden(schema.GroupResource{}, "", nil),
		"credentials":     apierrors.NewUnauthorized(""),
	} {
		res, _ := resourceOf(wire.KindDevice)
		if got := explain(res, err); !strings.Contains(got, text) {
			t.Errorf("%v is explained as %q", err, got)
		}
	}
}
