package kube

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

func serviceDoc(namespace, name, ip string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":%q,"labels":{"app":"x"}},"spec":{"clusterIP":%q,"selector":{"app":"x"},"type":"ClusterIP",
		"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080,"nodePort":30001}]},"status":{"loadBalancer":{}}}`, name, namespace, ip)
}

func linkedPod(name, namespace, node string, links bool) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":%q,"uid":%q},"spec":{"nodeName":%q,"enableServiceLinks":%v}}`, name, namespace, "u-"+name, node, links)
}

// TestServicesGoToPodsThatWantThem: those of the pod's namespace if it has enableServiceLinks, default/kubernetes always.
func TestServicesGoToPodsThatWantThem(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindService, serviceDoc("default", "kubernetes", "10.96.0.1"))
		b.api.put(t, wire.KindService, serviceDoc("default", "web", "10.96.0.2"))
		b.api.put(t, wire.KindService, serviceDoc("default", "headless", "None"))
		b.api.put(t, wire.KindService, `{"metadata":{"name":"outside","namespace":"default"},"spec":{"type":"ExternalName","externalName":"example.org"}}`)
		b.api.put(t, wire.KindService, serviceDoc("shop", "db", "10.96.0.3"))
		b.api.put(t, wire.KindPod, linkedPod("a", "shop", "gw-1", true))
		b.api.put(t, wire.KindPod, linkedPod("b", "shop", "gw-2", false))
		b.api.put(t, wire.KindPod, linkedPod("c", "default", "gw-3", true))
		synctest.Wait()
		expectKeys(t, "gw-1", b.keys("gw-1"), "pods/shop/a/u-a", "services/shop/db", kubernetesService)
		expectKeys(t, "gw-2", b.keys("gw-2"), "pods/shop/b/u-b", kubernetesService)
		expectKeys(t, "gw-3", b.keys("gw-3"), "pods/default/c/u-c", "services/default/web", kubernetesService)
		for _, c := range []struct {
			node string
			key  wire.Key
			sees bool
		}{{"gw-1", "services/shop/db", true}, {"gw-2", "services/shop/db", false}, {"gw-3", "services/default/headless", false},
			{"gw-3", "services/default/outside", false}, {"gw-1", "services/default/web", false}, {"gw-2", kubernetesService, true}} {
			if obj, _, ok := b.index.Object(c.node, c.key); ok != c.sees || obj.Absent {
				t.Errorf("%s sees %s: %v, %+v", c.node, c.key, ok, obj)
			}
		}
		_, refs, _ := b.index.Object("gw-3", "pods/default/c/u-c")
		expectKeys(t, "a pod travels with", refs, "services/default/web", kubernetesService)
		obj, _, _ := b.index.Object("gw-1", "services/shop/db")
		if text, err := canon.ToJSON(obj.Body); err != nil || strings.Contains(string(text), "selector") || strings.Contains(string(text), "nodePort") || !strings.Contains(string(text), `"clusterIP":"10.96.0.3"`) {
			t.Errorf("what is sent of a Service: %s, %v", text, err)
		}
	})
}

// TestServicesAreToldOfOnce: a node hears of a namespace's Services when its first pod there comes and its last one goes, and of changes
// only if they change variables.
func TestServicesAreToldOfOnce(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindService, serviceDoc("shop", "db", "10.96.0.3"))
		synctest.Wait()
		one, cancel := b.listen("gw-1")
		defer cancel()
		b.api.put(t, wire.KindPod, linkedPod("a", "shop", "gw-1", true))
		expectKeys(t, "first pod", one(), "pods/shop/a/u-a", "services/shop/db")
		b.api.put(t, wire.KindPod, linkedPod("b", "shop", "gw-1", true))
		expectKeys(t, "second pod", one(), "pods/shop/b/u-b")
		b.api.put(t, wire.KindPod, strings.Replace(linkedPod("a", "shop", "gw-1", true), `"spec":{`, `"spec":{"priority":1,`, 1))
		expectKeys(t, "a pod changes", one(), "pods/shop/a/u-a")
		b.api.put(t, wire.KindService, strings.Replace(serviceDoc("shop", "db", "10.96.0.3"), `"app":"x"`, `"app":"y"`, 2))
		expectKeys(t, "labels and selector change", one())
		b.api.put(t, wire.KindService, serviceDoc("shop", "db", "10.96.0.4"))
		expectKeys(t, "the address changes", one(), "services/shop/db")
		b.api.put(t, wire.KindService, serviceDoc("shop", "cache", "10.96.0.5"))
		expectKeys(t, "a Service appears", one(), "services/shop/cache")
		b.api.remove(wire.KindService, "shop/cache")
		expectKeys(t, "a Service goes", one(), "services/shop/cache")
		b.api.put(t, wire.KindService, serviceDoc("other", "db", "10.96.0.6"))
		expectKeys(t, "another namespace", one())
		b.api.remove(wire.KindPod, "shop/a")
		expectKeys(t, "first pod goes", one(), "pods/shop/a/u-a")
		b.api.remove(wire.KindPod, "shop/b")
		expectKeys(t, "last pod goes", one(), "pods/shop/b/u-b", "services/shop/db")
		expectKeys(t, "what is left", b.keys("gw-1"))
		b.index.mu.Lock()
		defer b.index.mu.Unlock()
		if s := b.index.services["shop"]; len(b.index.services) != 2 || len(s.keys) != 1 || len(s.nodes) != 0 {
			t.Errorf("sets that stay: %v", b.index.services)
		}
	})
}

const claimingPod = `{"metadata":{"name":"web","namespace":"default","uid":"p1"},"spec":{"nodeName":"gw-1","enableServiceLinks":false,"runtimeClassName":"kata",
	"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}},{"name":"tmp","ephemeral":{"volumeClaimTemplate":{"spec":{}}}}]}}`

func claimDoc(name, volume, phase string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"default"},"spec":{"volumeName":%q},"status":{"phase":%q,"capacity":{"storage":"1Gi"}}}`, name, volume, phase)
}

func volumeDoc(name, claim string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"claimRef":{"namespace":"default","name":%q},"local":{"path":"/data"}},"status":{"phase":"Bound"}}`, name, claim)
}

// TestClaimsLeadToTheirVolumes: over both steps, in one commit with the pod.
func TestClaimsLeadToTheirVolumes(t *testing.T) {
	withBench(t, func(b *bench) {
		one, cancel := b.listen("gw-1")
		defer cancel()
		pod, claim, tmp, class, volume := wire.Key("pods/default/web/p1"), wire.Key("persistentvolumeclaims/default/data"),
			wire.Key("persistentvolumeclaims/default/web-tmp"), wire.Key("runtimeclasses//kata"), wire.Key("persistentvolumes//disk")
		b.api.put(t, wire.KindPod, claimingPod)
		expectKeys(t, "pod", one(), pod, claim, tmp, class)
		b.api.put(t, wire.KindPersistentVolumeClaim, claimDoc("data", "", "Pending"))
		expectKeys(t, "claim", one(), claim)
		expectKeys(t, "before it is bound", b.keys("gw-1"), pod, claim, tmp, class)
		b.api.put(t, wire.KindPersistentVolumeClaim, claimDoc("data", "disk", "Bound"))
		expectKeys(t, "claim is bound", one(), claim, volume)
		if keys, _ := b.index.Keys("gw-1"); keys[volume] != wire.AbsentVersion() || keys[class] != wire.AbsentVersion() {
			t.Errorf("what does not exist: %v", keys)
		}
		b.api.put(t, wire.KindPersistentVolume, volumeDoc("disk", "data"))
		expectKeys(t, "volume appears", one(), volume)
		_, refs, _ := b.index.Object("gw-1", pod)
		expectKeys(t, "the pod travels with", refs, claim, tmp, class, volume)
		_, refs, _ = b.index.Object("gw-1", claim)
		expectKeys(t, "the claim travels with", refs, volume)
		obj, _, ok := b.index.Object("gw-1", volume)
		if !ok || obj.Absent {
			t.Errorf("volume: %+v, %v", obj, ok)
		}
		b.api.put(t, wire.KindRuntimeClass, `{"metadata":{"name":"kata"},"handler":"kata-runtime"}`)
		expectKeys(t, "runtimeClass appears", one(), class)
		obj, _, _ = b.index.Object("gw-1", claim)
		if text, err := canon.ToJSON(obj.Body); err != nil || !strings.Contains(string(text), `"status":{"phase":"Bound"}`) {
			t.Errorf("the claim as it is sent: %s, %v", text, err)
		}
		b.api.remove(wire.KindPod, "default/web")
		expectKeys(t, "the pod goes", one(), pod, claim, tmp, class, volume)
		expectKeys(t, "what is left", b.keys("gw-1"))
		if _, _, ok := b.index.Object("gw-1", volume); ok {
			t.Error("the node may still read the volume")
		}
	})
}

// TestClaimsOfOthersVolumes: whoever makes a claim may write any volume's name into it, which must not show that volume to a node.
func TestClaimsOfOthersVolumes(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPersistentVolume, volumeDoc("disk", "others"))
		b.api.put(t, wire.KindPersistentVolumeClaim, claimDoc("data", "disk", "Pending"))
		b.api.put(t, wire.KindPod, claimingPod)
		synctest.Wait()
		for _, key := range b.keys("gw-1") {
			if key.Kind() == wire.KindPersistentVolume {
				t.Errorf("the node is to hold %s", key)
			}
		}
		if _, _, ok := b.index.Object("gw-1", "persistentvolumes//disk"); ok {
			t.Error("the node may read another claim's volume")
		}
		for _, pod := range []string{"web"} {
			if _, refs, _ := b.index.Object("gw-1", wire.Key("pods/default/"+pod+"/p1")); len(refs) != 3 {
				t.Errorf("the pod travels with %v", refs)
			}
		}
		one, cancel := b.listen("gw-1")
		defer cancel()
		b.api.put(t, wire.KindPersistentVolume, volumeDoc("disk", "data"))
		expectKeys(t, "the volume is given to the claim", one(), "persistentvolumes//disk")
		if _, _, ok := b.index.Object("gw-1", "persistentvolumes//disk"); !ok {
			t.Error("the node may not read its claim's volume")
		}
	})
}

// TestReferencesAreWhatKeysSays: a key is in Keys exactly if Object gives it, whatever comes and goes.
func TestReferencesAreWhatKeysSays(t *testing.T) {
	withBench(t, func(b *bench) {
		steps := []func(){
			func() { b.api.put(t, wire.KindPod, claimingPod) },
			func() { b.api.put(t, wire.KindPod, linkedPod("a", "default", "gw-1", true)) },
			func() { b.api.put(t, wire.KindService, serviceDoc("default", "kubernetes", "10.96.0.1")) },
			func() { b.api.put(t, wire.KindPersistentVolumeClaim, claimDoc("data", "disk", "Bound")) },
			func() { b.api.put(t, wire.KindService, serviceDoc("default", "web", "10.96.0.2")) },
			func() { b.api.put(t, wire.KindPersistentVolume, volumeDoc("disk", "others")) },
			func() { b.api.put(t, wire.KindPersistentVolume, volumeDoc("disk", "data")) },
			func() { b.api.put(t, wire.KindService, serviceDoc("default", "web", "None")) },
			func() { b.api.remove(wire.KindPod, "default/a") },
			func() { b.api.remove(wire.KindPersistentVolumeClaim, "default/data") },
			func() { b.api.remove(wire.KindService, "default/kubernetes") },
			func() { b.api.remove(wire.KindPod, "default/web") },
		}
		for i, step := range steps {
			step()
			synctest.Wait()
			keys, _ := b.index.Keys("gw-1")
			for _, kind := range []string{"services/default/kubernetes", "services/default/web", "persistentvolumes//disk", "persistentvolumeclaims/default/data",
				"persistentvolumeclaims/default/web-tmp", "runtimeclasses//kata", "pods/default/web/p1", "pods/default/a/u-a"} {
				key := wire.Key(kind)
				obj, refs, ok := b.index.Object("gw-1", key)
				version, listed := keys[key]
				if ok != listed || ok && obj.Version != version {
					t.Errorf("step %d: %s: Keys says %v %v, Object %v %v", i, key, listed, version, ok, obj.Version)
				}
				for _, ref := range refs {
					if _, listed := keys[ref]; !listed {
						t.Errorf("step %d: %s travels with %s, which Keys does not have", i, key, ref)
					}
				}
			}
		}
	})
}
