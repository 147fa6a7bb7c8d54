package kube

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

// TestChangesAreKnownToEveryRelay: what an index says of changes never goes beyond what another one with the same events has seen,
// whoever has heard more bookmarks. Otherwise the other would keep agents waiting that come to it.
func TestChangesAreKnownToEveryRelay(t *testing.T) {
	withBench(t, func(b *bench) {
		other := NewIndex(IndexOptions{Client: b.api, Log: b.index.opts.Log})
		ctx, cancel := context.WithCancel(b.t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = other.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		synctest.Wait()

		check := func(what string, kind wire.Kind) {
			t.Helper()
			synctest.Wait()
			if a, o := b.index.Changed(kind), other.Revisions()[kind]; a > o || a == 0 {
				t.Errorf("%s: the index tells of %s %d, the other one has seen %d", what, kind, a, o)
			}
		}
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"},"data":{"a":"1"}}`)
		check("after a change", wire.KindConfigMap)
		b.index.bookmark(wire.KindConfigMap, 1_000_000)
		if seen := b.index.Revisions()[wire.KindConfigMap]; seen != 1_000_000 {
			t.Errorf("the index has seen %d after a bookmark", seen)
		}
		check("after a bookmark", wire.KindConfigMap)
		before := b.index.Changed(wire.KindConfigMap)
		b.api.remove(wire.KindConfigMap, "default/cfg")
		check("after a deletion", wire.KindConfigMap)
		if b.index.Changed(wire.KindConfigMap) <= before {
			t.Error("a deletion is no change")
		}
	})
}

// TestListsAsChanges: a list tells of a deletion as of its own revision, and if nothing has gone, of what it holds. An object that
// was listed is as old as the list found it: it may have had another body meanwhile.
func TestListsAsChanges(t *testing.T) {
	x := NewIndex(IndexOptions{})
	rec := func(name string, revision uint64) *record {
		return &record{key: wire.NewKey(wire.KindConfigMap, "d", name, ""), version: wire.BodyVersion("u", []byte{1}), revision: revision, since: revision}
	}
	list := func(revision uint64, records ...*record) uint64 {
		x.replaceAll(wire.KindConfigMap, records, nil, revision)
		return x.Changed(wire.KindConfigMap)
	}
	if c := list(100, rec("a", 50), rec("b", 60)); c != 100 {
		t.Errorf("the first list is told as %d", c)
	}
	x.put(wire.KindConfigMap, rec("b", 110))
	x.bookmark(wire.KindConfigMap, 150)
	if c := list(200, rec("a", 50), rec("b", 120)); c != 120 {
		t.Errorf("a list of one change at 120 is told as %d", c)
	}
	if r := x.get("configmaps/d/b"); r.since != 120 {
		t.Errorf("an object that was listed at 120 counts since %d", r.since)
	}
	if c := list(300, rec("b", 120)); c != 300 {
		t.Errorf("a list that lacks an object is told as %d", c)
	}
	if c := list(90, rec("b", 80)); c != 90 {
		t.Errorf("a restored cluster is told as %d", c)
	}
}

// TestOlderStatesInALaterList: an object that a list shows older than it was at the list's revision was restored from a backup, although
// revisions have passed those before it (etcdutl snapshot restore --bump-revision). A list that lags takes back nothing.
func TestOlderStatesInALaterList(t *testing.T) {
	x := NewIndex(IndexOptions{})
	var restored []wire.Kind
	x.observe = func(wire.Key, *record, string, bool) {}
	x.observeRestore = func(kind wire.Kind) { restored = append(restored, kind) }
	pod := func(revision uint64) *record {
		return &record{key: wire.NewKey(wire.KindPod, "d", "p", "u"), node: "gw-1", version: wire.BodyVersion("u", []byte{byte(revision)}), revision: revision, since: revision}
	}
	x.replaceAll(wire.KindPod, []*record{pod(50)}, nil, 100)
	x.refresh(wire.KindPod, pod(120)) // the answer to our own write
	x.replaceAll(wire.KindPod, []*record{pod(50)}, nil, 110)
	if r := x.get("pods/d/p/u"); r.revision != 120 || len(restored) != 0 {
		t.Errorf("a list that lags took an object back to %d; restored: %v", r.revision, restored)
	}
	x.replaceAll(wire.KindPod, []*record{pod(50)}, nil, 1000)
	if r := x.get("pods/d/p/u"); r.revision != 50 || len(restored) != 1 {
		t.Errorf("after a restore with higher revisions the object is at %d; restored: %v", r.revision, restored)
	}
}

// TestStatusWritesAreNoNewRevision: an object is as old as its body. Agents report several times a minute.
func TestStatusWritesAreNoNewRevision(t *testing.T) {
	withBench(t, func(b *bench) {
		b.api.put(t, wire.KindPod, podOnGW1)
		synctest.Wait()
		first, _, _ := b.index.Object("gw-1", "pods/default/web/p1")
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"spec"`, `"status":{"phase":"Running"},"spec"`, 1))
		synctest.Wait()
		if o, _, _ := b.index.Object("gw-1", "pods/default/web/p1"); o.Revision != first.Revision || o.Revision == 0 {
			t.Errorf("revision %d became %d with the status", first.Revision, o.Revision)
		}
		b.api.put(t, wire.KindPod, strings.Replace(podOnGW1, `"optional":true`, `"optional":false`, 1))
		synctest.Wait()
		if o, _, _ := b.index.Object("gw-1", "pods/default/web/p1"); o.Revision <= first.Revision {
			t.Error("another body has an old revision")
		}
	})
}

// TestAbsenceIsConfirmed: the API server is asked once about a reference that is absent as of less than the pod's revision, those
// who need it are told, and nothing is certain while it does not answer.
func TestAbsenceIsConfirmed(t *testing.T) {
	withBench(t, func(b *bench) {
		const tls = "secrets/default/tls"
		b.api.put(t, wire.KindConfigMap, `{"metadata":{"name":"cfg","namespace":"default"}}`)
		b.api.put(t, wire.KindPod, podOnGW1)
		heard, cancel := b.listen("gw-1")
		defer cancel()
		absent := func() uint64 {
			t.Helper()
			synctest.Wait()
			o, _, ok := b.index.Object("gw-1", tls)
			if !ok || !o.Absent {
				t.Fatalf("%+v, %v", o, ok)
			}
			return o.Revision
		}
		pod := func() uint64 {
			o, _, _ := b.index.Object("gw-1", "pods/default/web/p1")
			return o.Revision
		}
		if absent() >= pod() {
			t.Fatalf("absent as of %d, the pod is of %d: the test has nothing to show", absent(), pod())
		}
		down := true
		b.api.failWith(func(verb, resource, _ string) error {
			if verb == "get" && resource == "secrets" && down {
				return errors.New("down")
			}
			return nil
		})
		gets := func() (n int) {
			b.api.mu.Lock()
			defer b.api.mu.Unlock()
			for _, r := range b.api.requests {
				if r == "get secrets default/tls" {
					n++
				}
			}
			return n
		}
		heard()
		for range 100 { // as many agents
			b.index.ConfirmAbsent(tls, pod())
		}
		if absent() >= pod() || gets() != 1 || len(heard()) != 0 {
			t.Errorf("absent as of %d, pod %d, %d GETs, while the API server is down", absent(), pod(), gets())
		}
		b.api.mu.Lock()
		down = false
		b.api.mu.Unlock()
		time.Sleep(absencePause)
		b.index.ConfirmAbsent(tls, pod())
		if absent() < pod() || gets() != 2 {
			t.Errorf("absent as of %d, pod %d, %d GETs", absent(), pod(), gets())
		}
		if keys := heard(); !slices.Contains(keys, tls) {
			t.Errorf("heard of %q", keys)
		}
		time.Sleep(absencePause)
		b.index.ConfirmAbsent(tls, pod())
		if synctest.Wait(); gets() != 2 {
			t.Errorf("asked again about what is certain")
		}
		b.api.put(t, wire.KindSecret, `{"metadata":{"name":"tls","namespace":"default"}}`)
		b.api.remove(wire.KindSecret, "default/tls")
		b.api.remove(wire.KindPod, "default/web")
		synctest.Wait()
		if n := len(b.index.absent.keys); n != 0 {
			t.Errorf("%d absences are kept that nobody needs", n)
		}
	})
}
