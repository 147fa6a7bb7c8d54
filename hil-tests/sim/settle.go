package sim

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/kube"

	"log/slog"
	"maps"
)

// settleTime is how long everything may take to come right once the faults have ended: back-offs, expired Leases, reports
// that wait for objects.
const settleTime = 15 * time.Minute

// settle ends all faults and waits until agents and cloud agree. The world must be quiet.
func (s *Sim) settle() {
	if len(s.violations) > 0 {
		return
	}
	s.note("simulator", "settle", "all faults end")
	s.cutoffs = nil
	s.api.down = false
	for _, r := range s.relays {
		r.cutTo = time.Time{}
	}
	for _, a := range s.agents {
		a.deafTo = time.Time{}
	}
	if s.api.restores > 0 {
		s.liveOn()
	}
	var why string
	for end := s.now.Add(settleTime); s.now.Before(end) && len(s.violations) == 0; {
		s.run(30 * time.Second)
		if why = s.disagreement(); why == "" {
			s.count.settled++
			s.note("simulator", "settled", "")
			return
		}
	}
	if len(s.violations) == 0 {
		s.fail("not in sync", "%v after the last fault: %s", settleTime, why)
	}
}

// liveOn lets a cluster that was restored write until its revisions pass all that agents have seen.
func (s *Sim) liveOn() {
	for _, a := range s.agents {
		for _, rev := range a.store.Revisions() {
			s.api.rv = max(s.api.rv, rev+1)
		}
	}
	for _, resource := range []string{nodes, pods, devices} {
		for _, name := range s.api.names(resource) {
			if o := s.api.get(resource, name); o.node() != "" {
				s.api.modify(o, user, func(map[string]any) {})
			}
		}
	}
}

// disagreement says where agents and cloud differ, or "".
func (s *Sim) disagreement() string {
	for _, a := range s.agents {
		if !a.up {
			return a.node + " is down"
		}
		if st := a.machine.Status(); !st.Connected || !st.InSync {
			return fmt.Sprintf("%s is not in sync: %s", a.node, st.LastError)
		}
		for _, differs := range []func(*agent) string{s.downward, s.upward, s.outboxLeft, s.streamsLeft} {
			if why := differs(a); why != "" {
				return why
			}
		}
	}
	return ""
}

// streamsLeft says what the streams of an agent leave undone.
func (s *Sim) streamsLeft(a *agent) string {
	for _, n := range sortedKeys(a.conns) {
		if why := a.conns[n].streams.idle(); why != "" {
			return why
		}
	}
	return ""
}

// expected is what an agent should hold, by a fresh index over the API server's present state, and by a second, simple
// reading of it.
func (s *Sim) expected(a *agent) (map[wire.Key]wire.Version, error) {
	x := kube.NewIndex(kube.IndexOptions{Log: slog.New(slog.DiscardHandler)})
	simple := map[wire.Key]bool{}
	for _, kind := range wire.Kinds() {
		var list []any
		for _, name := range s.api.names(string(kind)) {
			o := s.api.get(string(kind), name)
			if kind == wire.KindPod && o.node() == "" {
				continue
			}
			list = append(list, o.copy())
			if o.node() == a.node {
				simple[o.key()] = true
				for _, r := range referencesOf(kind, o.data) {
					simple[r.key] = true
				}
			}
		}
		if err := x.Feed(kind).Replace(list, fmt.Sprint(s.api.rv)); err != nil {
			return nil, err
		}
	}
	s.expectIndirect(a, simple)
	keys, ready := x.Keys(a.node)
	if !ready || len(keys) != len(simple) {
		return nil, fmt.Errorf("the index has %d keys for %s, there are %d", len(keys), a.node, len(simple))
	}
	for k := range simple {
		if _, ok := keys[k]; !ok {
			return nil, fmt.Errorf("the index has no %s for %s", k, a.node)
		}
	}
	return keys, nil
}

// expectIndirect adds what concerns an agent without being named by what is bound to it: the volumes of claims, and Services.
func (s *Sim) expectIndirect(a *agent, simple map[wire.Key]bool) {
	for k := range maps.Clone(simple) {
		if o := s.api.get(string(k.Kind()), k.Namespace()+"/"+k.Name()); o != nil && k.Kind() == wire.KindPersistentVolumeClaim {
			for _, r := range referencesOf(k.Kind(), o.data) {
				simple[r.key] = true
			}
		}
	}
	links := false
	for _, name := range s.api.names(pods) {
		o := s.api.get(pods, name)
		links = links || o.node() == a.node && dig(o.data, "spec", "enableServiceLinks") != false
	}
	for _, name := range s.api.names(string(wire.KindService)) {
		if o := s.api.get(string(wire.KindService), name); links && dig(o.data, "spec", "clusterIP") != "None" {
			simple[o.key()] = true
		}
	}
}

func (s *Sim) downward(a *agent) string {
	want, err := s.expected(a)
	if err != nil {
		return err.Error()
	}
	got := a.store.Versions()
	if d := differences(got, want); len(got) != len(want) || d[len(d)-2:] != ": " {
		return a.node + " holds " + d
	}
	for _, k := range a.store.Keys() {
		v := a.view(k)
		name := k.Namespace() + "/" + k.Name()
		o := s.api.get(string(k.Kind()), name)
		if (v == nil) != (o == nil) {
			return fmt.Sprintf("%s and the cloud disagree whether %s exists", a.node, k)
		}
		if v != nil && v.payload != payloadOf(o.data) {
			return fmt.Sprintf("%s holds %s with payload %s, the cloud has %s", a.node, k, v.payload, payloadOf(o.data))
		}
	}
	return ""
}

// upward says which of the agent's newest reports is not in the API.
func (s *Sim) upward(a *agent) string {
	for _, k := range sortedKeys(a.reports) {
		name := k.Namespace() + "/" + k.Name()
		o := s.api.get(string(k.Kind()), name)
		if o == nil || o.node() != a.node || k.Kind() == wire.KindPod && o.uid != k.UID() {
			continue
		}
		if c := a.runtime[k.UID()]; c != nil && c.gone {
			return fmt.Sprintf("%s has stopped %s for good, and it is still in the API", a.node, k)
		}
		if n := reportedIn(o); n != a.latest[k] {
			return fmt.Sprintf("the newest report of %s on %s is %d, the API has %d", a.node, k, a.latest[k], n)
		}
		if k.Kind() != wire.KindDevice {
			continue
		}
		if st := s.api.get(deviceStatuses, name); st == nil || reportedIn(st) != a.latest[k] {
			return fmt.Sprintf("the newest values of %s on %s are %d, the API has others", a.node, k, a.latest[k])
		}
	}
	n := s.api.get(nodes, "/"+a.node)
	if n == nil || readiness(n) != "True" {
		return a.node + " is not ready in the API"
	}
	if age := s.leaseAge(a.node); age > 40*time.Second {
		return fmt.Sprintf("the Lease of %s was not renewed for %v", a.node, age)
	}
	return ""
}

func (s *Sim) outboxLeft(a *agent) string {
	if n, _ := a.store.Level(); n > 0 {
		return fmt.Sprintf("%d items wait in the outbox of %s", n, a.node)
	}
	return ""
}
