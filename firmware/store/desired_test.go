package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"syscall"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/skerry/skerry/firmware/wire"
)

func object(key wire.Key, uid, body string, rev uint64) wire.Object {
	return wire.Object{Key: key, Version: wire.BodyVersion(uid, []byte(body)), Revision: rev, Body: []byte(body)}
}

func absent(key wire.Key, rev uint64) wire.Object {
	return wire.Object{Key: key, Version: wire.AbsentVersion(), Revision: rev, Absent: true}
}

func mustDesired(t *testing.T, s *Store) *Desired {
	t.Helper()
	d, err := NewDesired(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func apply(t *testing.T, d *Desired, c wire.Commit) {
	t.Helper()
	if err := d.Apply(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

const (
	podKey = wire.Key("pods/default/web/u1")
	cfgKey = wire.Key("configmaps/default/cfg")
	secKey = wire.Key("secrets/default/s")
	devKey = wire.Key("devices/default/pump")
)

func TestDesiredAppliesAndReopens(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	d := mustDesired(t, s)
	pod, cfg := object(podKey, "u1", "pod body", 12), object(cfgKey, "u2", "cfg body", 11)
	apply(t, d, wire.Commit{ID: 1, Rules: 3, Put: []wire.Object{cfg, absent(secKey, 12), pod},
		Revisions: map[wire.Kind]uint64{wire.KindPod: 12, wire.KindConfigMap: 11}})
	check := func(d *Desired) {
		t.Helper()
		for _, w := range []wire.Object{pod, cfg, absent(secKey, 12)} {
			if got, ok := d.Get(w.Key); !ok || !reflect.DeepEqual(got, w) {
				t.Errorf("Get(%s) = %+v, %v", w.Key, got, ok)
			}
		}
		entries := []wire.Entry{{Key: podKey, Version: pod.Version}, {Key: cfgKey, Version: cfg.Version}, {Key: secKey, Version: wire.AbsentVersion()}}
		if got := d.Digest(); got != wire.DigestOf(3, entries) {
			t.Errorf("digest %+v", got)
		}
		var buckets []wire.Entry
		for i := range wire.DigestBuckets {
			for _, e := range d.Bucket(i) {
				if e.Key.Bucket() != i {
					t.Errorf("%s in bucket %d", e.Key, i)
				}
				buckets = append(buckets, e)
			}
		}
		if len(buckets) != 3 || d.Len() != 3 {
			t.Errorf("%d entries in buckets, Len %d", len(buckets), d.Len())
		}
		if r := d.Revisions(); r[wire.KindPod] != 12 || r[wire.KindConfigMap] != 11 || len(r) != 2 {
			t.Errorf("revisions %v", r)
		}
		if l := d.List(wire.KindPod); len(l) != 1 || l[0].Key != podKey {
			t.Errorf("List: %+v", l)
		}
	}
	check(d)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	check(d)
	mustClose(t, s)
	s = mustOpen(t, opt)
	d = mustDesired(t, s)
	check(d)

	apply(t, d, wire.Commit{ID: 2, Rules: 3, Put: []wire.Object{object(secKey, "u3", "now there", 20)}, Delete: []wire.Key{podKey, devKey},
		Revisions: map[wire.Kind]uint64{wire.KindPod: 5}})
	if _, ok := d.Get(podKey); ok {
		t.Error("the pod is still held")
	}
	if o, ok := d.Get(secKey); !ok || o.Absent || string(o.Body) != "now there" {
		t.Errorf("secret: %+v", o)
	}
	if d.Revisions()[wire.KindPod] != 12 {
		t.Error("a revision went back")
	}
}

func TestDesiredDoesNotRewriteWhatItHolds(t *testing.T) {
	s := mustOpen(t, fastOptions(t, t.TempDir()))
	d := mustDesired(t, s)
	c := wire.Commit{ID: 1, Put: []wire.Object{object(podKey, "u1", "body", 12)}, Revisions: map[wire.Kind]uint64{wire.KindPod: 12}}
	apply(t, d, c)
	w := d.Watch()
	defer w.Close()
	w.Take()
	<-w.C()
	before := s.Metrics().BytesWritten
	apply(t, d, c)
	if after := s.Metrics().BytesWritten; after != before {
		t.Errorf("%d bytes written for nothing new", after-before)
	}
	if keys := w.Take(); len(keys) != 0 {
		t.Errorf("watch was told of %v", keys)
	}
}

func TestDesiredRefusesWhatContradictsItself(t *testing.T) {
	s := mustOpen(t, fastOptions(t, t.TempDir()))
	d := mustDesired(t, s)
	wrong := object(podKey, "u1", "body", 1)
	wrong.Body = []byte("other body")
	both := absent(secKey, 1)
	both.Body = []byte("x")
	for name, o := range map[string]wire.Object{
		"hash": wrong, "absent with body": both, "key": object("pods/x", "u", "b", 1), "no body": {Key: cfgKey, Version: wire.BodyVersion("u", nil)},
	} {
		err := d.Apply(context.Background(), wire.Commit{ID: 9, Put: []wire.Object{object(cfgKey, "u", "fine", 1), o}})
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if d.Len() != 0 {
		t.Error("half of a refused commit was applied")
	}
}

func TestDesiredFailedApplyChangesNothing(t *testing.T) {
	f := &faultFS{err: syscall.ENOSPC, last: 1 << 30}
	opt := fastOptions(t, t.TempDir())
	opt.fs = f
	d := mustDesired(t, mustOpen(t, opt))
	w := d.Watch(wire.KindPod)
	defer w.Close()
	c := wire.Commit{ID: 1, Rules: 1, Put: []wire.Object{object(podKey, "u1", "body", 12)}, Revisions: map[wire.Kind]uint64{wire.KindPod: 12}}
	if err := d.Apply(context.Background(), c); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Apply: %v", err)
	}
	if d.Digest() != (wire.Digest{}) || len(d.Revisions()) != 0 || len(d.List(wire.KindPod)) != 0 || len(w.Take()) != 0 {
		t.Error("a failed commit left traces")
	}
	f.last = 0
	apply(t, d, c)
	if keys := w.Take(); !slices.Equal(keys, []wire.Key{podKey}) {
		t.Errorf("watch: %v", keys)
	}
}

func TestWatchCoalescesAndFilters(t *testing.T) {
	d := mustDesired(t, mustOpen(t, fastOptions(t, t.TempDir())))
	apply(t, d, wire.Commit{ID: 1, Put: []wire.Object{object(podKey, "u1", "1", 1), object(cfgKey, "u2", "1", 1)}})
	w := d.Watch(wire.KindPod, wire.KindDevice)
	<-w.C()
	if keys := w.Take(); !slices.Equal(keys, []wire.Key{podKey}) {
		t.Errorf("at the beginning: %v", keys)
	}
	for i := range 3 {
		apply(t, d, wire.Commit{ID: 2, Put: []wire.Object{object(podKey, "u1", fmt.Sprint("v", i), 1), object(cfgKey, "u2", fmt.Sprint("v", i), 1)}})
	}
	apply(t, d, wire.Commit{ID: 3, Put: []wire.Object{object(devKey, "u4", "1", 1)}})
	apply(t, d, wire.Commit{ID: 4, Delete: []wire.Key{devKey}})
	<-w.C()
	select {
	case <-w.C():
		t.Error("the channel held two tokens")
	default:
	}
	keys := w.Take()
	slices.Sort(keys)
	if !slices.Equal(keys, []wire.Key{devKey, podKey}) {
		t.Errorf("changed: %v", keys)
	}
	apply(t, d, wire.Commit{ID: 5, Put: []wire.Object{object(podKey, "u1", "other", 1)}})
	<-w.C() // and the key is not taken yet
	apply(t, d, wire.Commit{ID: 6, Put: []wire.Object{object(cfgKey, "u2", "other", 1)}})
	select {
	case <-w.C():
		t.Error("woken by a kind that is not watched")
	default:
	}
	w.Take()
	if len(w.Take()) != 0 {
		t.Error("Take returned the same keys again")
	}
	w.Close()
	w.Close()
	apply(t, d, wire.Commit{ID: 5, Delete: []wire.Key{podKey}})
	if len(w.Take()) != 0 {
		t.Error("a closed watch is told of changes")
	}
}

func TestDesiredForgetsDamagedObjects(t *testing.T) {
	opt := fastOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	d := mustDesired(t, s)
	apply(t, d, wire.Commit{ID: 1, Put: []wire.Object{object(podKey, "u1", "body", 1), object(cfgKey, "u2", "body", 1)}})
	// A record that opens, but is not what its version says.
	var b Batch
	o := object(secKey, "u3", "body", 1)
	o.Body = []byte("altered")
	b.Put(SpaceDesired, string(secKey), encodeObject(o))
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("desired")).Put([]byte(podKey), []byte("rubbish"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Get(podKey); ok {
		t.Error("a damaged object is still held")
	}
	if got, want := d.Digest(), wire.DigestOf(0, []wire.Entry{{Key: cfgKey, Version: wire.BodyVersion("u2", []byte("body"))}}); got != want {
		t.Error("the digest still has the damaged object")
	}
	mustClose(t, s)
	s = mustOpen(t, opt)
	d = mustDesired(t, s)
	if d.Len() != 1 || len(s.Recovery().Findings) == 0 {
		t.Errorf("%d objects, %v", d.Len(), s.Recovery())
	}
	if _, ok := d.Get(secKey); ok {
		t.Error("an object that is not what its version says is held")
	}
	apply(t, d, wire.Commit{ID: 2, Put: []wire.Object{object(podKey, "u1", "body", 1)}})
	if d.Len() != 2 {
		t.Error("what the relay sends again is not taken")
	}
}

func TestDesiredMetaRoundTrip(t *testing.T) {
	in := map[wire.Kind]uint64{wire.KindPod: 1 << 60, wire.KindNode: 0}
	b := encodeDesiredMeta(7, in)
	rules, out, ok := decodeDesiredMeta(b)
	if !ok || rules != 7 || !reflect.DeepEqual(in, out) {
		t.Errorf("%v, %v, %v", rules, out, ok)
	}
	for i := 1; i < len(b); i++ {
		if _, got, ok := decodeDesiredMeta(b[:i]); ok && len(got) == len(in) {
			t.Errorf("cut at %d it is still whole: %v", i, got)
		}
	}
}

func FuzzDecodeObject(f *testing.F) {
	f.Add(string(podKey), encodeObject(object(podKey, "u1", "body", 1)))
	f.Add(string(secKey), encodeObject(absent(secKey, 1)))
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		o, err := decodeObject(key, b)
		if err != nil {
			return
		}
		if again, err := decodeObject(key, encodeObject(o)); err != nil || holding(again) != holding(o) || string(again.Body) != string(o.Body) {
			t.Fatalf("%+v, %+v, %v", o, again, err)
		}
		decodeItem(key, b)
		decodeDesiredMeta(b)
	})
}
