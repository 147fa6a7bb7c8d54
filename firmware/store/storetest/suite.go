package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
)

// Desired is the view of desired objects.
type Desired interface {
	Apply(ctx context.Context, c wire.Commit) error
	Get(key wire.Key) (wire.Object, bool)
	Digest() wire.Digest
	Bucket(i int) []wire.Entry
	Revisions() map[wire.Kind]uint64
}

// Outbox is the view of the outbox.
type Outbox interface {
	Append(kind string, body []byte) error
	Pending(after uint64, limit int) []wire.OutboxItem
	Ack(epoch, seq uint64) error
}

// Subject is a store under test.
type Subject interface {
	// Open opens the store over what is durable.
	Open(t *testing.T) (Desired, Outbox)
	// Dropped returns how many items the outbox ever gave up.
	Dropped() uint64
	// Crash cuts the power: what is not durable is gone, and the views are dead.
	Crash(t *testing.T)
	// Window ends the time that lazy writes may stay in memory.
	Window(t *testing.T)
	// Fail makes all writes fail with err from now on; nil makes them succeed again.
	Fail(err error)
}

// ErrInjected is what the suite makes writes fail with.
var ErrInjected = errors.New("injected: no space left on device")

// Run holds a store to its contract. make returns a new, empty one, which is not open yet.
func Run(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	tests := map[string]func(t *testing.T, make func(t *testing.T, limits Limits) Subject){
		"a commit is durable and whole":          committed,
		"a failed commit changes nothing":        failed,
		"what contradicts itself is refused":     contradictions,
		"random histories with crashes":          histories,
		"the outbox keeps order and what is new": outboxOrder,
		"the outbox is bounded and counts":       outboxLimits,
		"acknowledgements are lazy":              outboxAcks,
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) { tests[name](t, make) })
	}
}

// Object returns an object with a body of its own.
func Object(key wire.Key, uid, body string, revision uint64) wire.Object {
	return wire.Object{Key: key, Version: wire.BodyVersion(uid, []byte(body)), Revision: revision, Body: []byte(body)}
}

func absent(key wire.Key, revision uint64) wire.Object {
	return wire.Object{Key: key, Version: wire.AbsentVersion(), Revision: revision, Absent: true}
}

// state is what a store should hold.
type state struct {
	objects   map[wire.Key]wire.Object
	rules     wire.Rules
	revisions map[wire.Kind]uint64
}

func newState() state {
	return state{objects: map[wire.Key]wire.Object{}, revisions: map[wire.Kind]uint64{}}
}

func (s *state) apply(c wire.Commit) {
	for _, o := range c.Put {
		if old, ok := s.objects[o.Key]; !ok || old.Version != o.Version {
			s.objects[o.Key] = o
		}
	}
	for _, k := range c.Delete {
		delete(s.objects, k)
	}
	s.rules = c.Rules
	for k, r := range c.Revisions {
		s.revisions[k] = max(s.revisions[k], r)
	}
}

// check compares a store with what it should hold, by every way of asking.
func (s *state) check(t *testing.T, when string, d Desired, keys []wire.Key) {
	t.Helper()
	var entries []wire.Entry
	for _, k := range keys {
		want, held := s.objects[k]
		got, ok := d.Get(k)
		if ok != held || held && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %s is %+v, %v; want %+v, %v", when, k, got, ok, want, held)
		}
		if held {
			entries = append(entries, wire.Entry{Key: k, Version: want.Version})
		}
	}
	if d.Digest() != wire.DigestOf(s.rules, entries) {
		t.Fatalf("%s: the digest is not that of the %d objects held", when, len(entries))
	}
	n := 0
	for i := range wire.DigestBuckets {
		last := wire.Key("")
		for _, e := range d.Bucket(i) {
			if o, ok := s.objects[e.Key]; !ok || o.Version != e.Version || e.Key.Bucket() != i || e.Key <= last {
				t.Fatalf("%s: bucket %d lists %s", when, i, e.Key)
			}
			last = e.Key
			n++
		}
	}
	if n != len(entries) {
		t.Fatalf("%s: the buckets list %d objects, want %d", when, n, len(entries))
	}
	if got := d.Revisions(); !maps.Equal(got, s.revisions) {
		t.Fatalf("%s: revisions %v, want %v", when, got, s.revisions)
	}
}

const (
	podKey = wire.Key("pods/default/web/u1")
	cfgKey = wire.Key("configmaps/default/cfg")
	secKey = wire.Key("secrets/default/s")
)

var someKeys = []wire.Key{podKey, cfgKey, secKey}

func committed(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{})
	d, _ := s.Open(t)
	want := newState()
	want.check(t, "empty", d, someKeys)
	commits := []wire.Commit{
		{ID: 1, Rules: 1, Put: []wire.Object{Object(cfgKey, "c", "one", 5), absent(secKey, 6), Object(podKey, "u1", "pod", 7)},
			Revisions: map[wire.Kind]uint64{wire.KindPod: 7, wire.KindConfigMap: 5}},
		{ID: 2, Rules: 1, Put: []wire.Object{Object(secKey, "s", "there", 9)}, Delete: []wire.Key{podKey},
			Revisions: map[wire.Kind]uint64{wire.KindPod: 4, wire.KindSecret: 9}}, // a revision never goes back
		{ID: 3, Rules: 2, Put: []wire.Object{Object(cfgKey, "c", "two", 12), Object(podKey, "u1", "both", 11)}, Delete: []wire.Key{podKey}},
	}
	for _, c := range commits {
		if err := d.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		want.apply(c)
		want.check(t, fmt.Sprint("after commit ", c.ID), d, someKeys)
		s.Crash(t)
		d, _ = s.Open(t)
		want.check(t, fmt.Sprint("after a crash after commit ", c.ID), d, someKeys)
	}
}

func failed(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{})
	d, o := s.Open(t)
	want := newState()
	c := wire.Commit{ID: 1, Rules: 1, Put: []wire.Object{Object(cfgKey, "c", "one", 5), Object(podKey, "u1", "pod", 7)}, Revisions: map[wire.Kind]uint64{wire.KindPod: 7}}
	s.Fail(ErrInjected)
	if err := d.Apply(t.Context(), c); !errors.Is(err, ErrInjected) {
		t.Fatalf("Apply: %v", err)
	}
	if err := o.Append("event", []byte("x")); !errors.Is(err, ErrInjected) {
		t.Fatalf("Append: %v", err)
	}
	want.check(t, "after a failed commit", d, someKeys)
	if n := len(o.Pending(0, 10)); n != 0 || s.Dropped() != 0 {
		t.Fatalf("a failed Append left %d items, %d dropped", n, s.Dropped())
	}
	s.Fail(nil)
	if err := d.Apply(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want.apply(c)
	want.check(t, "after it succeeded", d, someKeys)
	s.Crash(t)
	d, _ = s.Open(t)
	want.check(t, "after a crash", d, someKeys)
}

func contradictions(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{})
	d, _ := s.Open(t)
	wrong := Object(cfgKey, "c", "body", 5)
	wrong.Body = []byte("another")
	bodied := absent(secKey, 5)
	bodied.Body = []byte("x")
	nameless := Object(cfgKey, "c", "body", 5)
	nameless.Key = "configmaps/default"
	want := newState()
	for _, o := range []wire.Object{wrong, bodied, nameless} {
		if err := d.Apply(t.Context(), wire.Commit{ID: 1, Rules: 1, Put: []wire.Object{Object(podKey, "u1", "pod", 1), o}}); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	want.check(t, "after refusals", d, someKeys)
}

// histories applies random commits, some of which fail, with a crash now and then.
func histories(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := make(t, Limits{})
		d, _ := s.Open(t)
		want := newState()
		var keys []wire.Key
		for i := range 12 {
			keys = append(keys, wire.NewKey(wire.KindConfigMap, "default", fmt.Sprint("c", i), ""), wire.NewKey(wire.KindPod, "default", fmt.Sprint("p", i), "u"))
		}
		for step := range 120 {
			c := wire.Commit{ID: uint64(step), Rules: wire.Rules(1 + step/40), Revisions: map[wire.Kind]uint64{wire.KindPod: uint64(r.IntN(200))}}
			for range r.IntN(4) {
				k := keys[r.IntN(len(keys))]
				if slices.ContainsFunc(c.Put, func(o wire.Object) bool { return o.Key == k }) {
					continue
				}
				o := Object(k, "u", fmt.Sprint("body ", r.IntN(5)), uint64(step))
				if r.IntN(5) == 0 {
					o = absent(k, uint64(step))
				}
				c.Put = append(c.Put, o)
			}
			for range r.IntN(2) {
				c.Delete = append(c.Delete, keys[r.IntN(len(keys))])
			}
			fails := r.IntN(6) == 0
			if fails {
				s.Fail(ErrInjected)
			}
			err := d.Apply(t.Context(), c)
			s.Fail(nil)
			switch {
			case err == nil:
				want.apply(c)
			case !fails || !errors.Is(err, ErrInjected):
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			if r.IntN(5) == 0 {
				s.Crash(t)
				d, _ = s.Open(t)
			}
			want.check(t, fmt.Sprintf("seed %d step %d", seed, step), d, keys)
		}
	}
}

func bodies(items []wire.OutboxItem) string {
	out := ""
	for _, it := range items {
		out += string(it.Body) + " "
	}
	return out
}

func appendN(t *testing.T, o Outbox, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := o.Append("event", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
}

func outboxOrder(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{})
	_, o := s.Open(t)
	named := map[[2]uint64]string{}
	var last [2]uint64
	seen := 0
	for life := range 4 {
		appendN(t, o, life*3, life*3+3)
		s.Crash(t) // an item is durable when Append has returned
		_, o = s.Open(t)
	}
	for {
		items := o.Pending(0, 2)
		if len(items) == 0 {
			break
		}
		for _, it := range items {
			id := [2]uint64{it.Epoch, it.Seq}
			if id[0] < last[0] || id[0] == last[0] && id[1] <= last[1] {
				t.Fatalf("item %v comes after %v", id, last)
			}
			if named[id] != "" || string(it.Body) != fmt.Sprint(seen) || it.Kind != "event" {
				t.Fatalf("item %v is %q, want %d", id, it.Body, seen)
			}
			named[id], last = string(it.Body), id
			seen++
		}
		if err := o.Ack(last[0], last[1]); err != nil {
			t.Fatal(err)
		}
	}
	if seen != 12 {
		t.Fatalf("%d items came, want 12", seen)
	}
}

func outboxLimits(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{Items: 20})
	_, o := s.Open(t)
	for i := range 50 {
		appendN(t, o, i, i+1)
		n := len(o.Pending(0, 100))
		if n > 20 || n+int(s.Dropped()) != i+1 {
			t.Fatalf("after %d: %d wait, %d dropped", i+1, n, s.Dropped())
		}
	}
	items, dropped := o.Pending(0, 100), s.Dropped()
	if dropped == 0 || string(items[0].Body) != fmt.Sprint(dropped) || string(items[len(items)-1].Body) != "49" {
		t.Fatalf("%d dropped, left are %s", dropped, bodies(items))
	}
	s.Crash(t)
	_, o = s.Open(t)
	if got := o.Pending(0, 100); !reflect.DeepEqual(got, items) || s.Dropped() != dropped {
		t.Fatalf("after a crash %s (%d dropped), before %s (%d)", bodies(got), s.Dropped(), bodies(items), dropped)
	}
}

func outboxAcks(t *testing.T, make func(t *testing.T, limits Limits) Subject) {
	s := make(t, Limits{})
	_, o := s.Open(t)
	appendN(t, o, 0, 5)
	items := o.Pending(0, 10)
	if err := o.Ack(items[2].Epoch, items[2].Seq); err != nil {
		t.Fatal(err)
	}
	if got := bodies(o.Pending(0, 10)); got != "3 4 " {
		t.Fatalf("after an acknowledgement %q wait", got)
	}
	s.Crash(t)
	_, o = s.Open(t)
	if got := bodies(o.Pending(0, 10)); got != "3 4 " && got != "0 1 2 3 4 " {
		t.Fatalf("after a crash within the window %q wait", got)
	}
	if err := o.Ack(items[2].Epoch, items[2].Seq); err != nil {
		t.Fatal(err)
	}
	s.Window(t)
	s.Crash(t)
	_, o = s.Open(t)
	if got := bodies(o.Pending(0, 10)); got != "3 4 " {
		t.Fatalf("after a crash beyond the window %q wait", got)
	}
}
