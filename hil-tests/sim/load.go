package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

const user = "user"

func (s *Sim) anyNode() string { return s.agents[s.r.IntN(len(s.agents))].node }

func (s *Sim) payload() string {
	s.payloads++
	return strconv.Itoa(s.payloads)
}

func (s *Sim) meta(namespace, name string) map[string]any {
	m := map[string]any{"name": name, "annotations": map[string]any{"payload": s.payload()}}
	if namespace != "" {
		m["namespace"] = namespace
	}
	return m
}

// change makes one random change in the cluster or at an agent.
func (s *Sim) change() {
	switch s.r.IntN(11) {
	case 0, 1:
		s.putReferenced()
	case 2:
		s.dropReferenced()
	case 3, 4:
		s.putPod()
	case 5:
		s.dropPod()
	case 6:
		s.putDevice()
	case 7:
		s.labelSomething()
	case 8, 9:
		a := s.agents[s.r.IntN(len(s.agents))]
		if !a.up {
			return
		}
		for _, k := range sortedKeys(a.reports) {
			if s.r.IntN(3) > 0 {
				a.report(k)
			}
		}
	case 10:
		a := s.agents[s.r.IntN(len(s.agents))]
		for range 1 + s.r.IntN(8) {
			a.event()
		}
	}
}

func (s *Sim) referencedName() (kind wire.Kind, name string) {
	return referencedKinds[s.r.IntN(len(referencedKinds))], "ref-" + strconv.Itoa(s.r.IntN(8))
}

func (s *Sim) putReferenced() {
	kind, name := s.referencedName()
	if o := s.api.get(string(kind), namespaceOf(kind)+"/"+name); o != nil {
		s.api.modify(o, user, func(data map[string]any) {
			data["metadata"].(map[string]any)["annotations"] = map[string]any{"payload": s.payload()}
			if kind == wire.KindService {
				data["spec"] = s.serviceSpec()
			}
		})
		return
	}
	data := map[string]any{"metadata": s.meta(namespaceOf(kind), name)}
	switch kind {
	case wire.KindService:
		data["spec"] = s.serviceSpec()
	case wire.KindPersistentVolumeClaim: // of a name, claim and volume belong together
		data["spec"] = map[string]any{"volumeName": name}
	case wire.KindPersistentVolume:
		data["spec"] = map[string]any{"claimRef": map[string]any{"namespace": "default", "name": name}}
	}
	s.api.create(string(kind), data, user)
}

func namespaceOf(kind wire.Kind) string {
	if kind.Clustered() {
		return ""
	}
	return "default"
}

// serviceSpec has an address most of the time: a Service without one concerns nobody.
func (s *Sim) serviceSpec() map[string]any {
	ip := "10.0.0.1"
	if s.r.IntN(4) == 0 {
		ip = "None"
	}
	return map[string]any{"clusterIP": ip, "ports": []any{map[string]any{"name": s.payload(), "port": int64(80)}}}
}

func (s *Sim) dropReferenced() {
	kind, name := s.referencedName()
	if o := s.api.get(string(kind), namespaceOf(kind)+"/"+name); o != nil {
		s.api.delete(o, true, user)
	}
}

// putPod makes a pod with two references, right before or after them; half of the pods are bound a little later.
func (s *Sim) putPod() {
	name := "pod-" + strconv.Itoa(s.r.IntN(8))
	if s.api.get(pods, "default/"+name) != nil {
		return
	}
	ref := func() string { return "ref-" + strconv.Itoa(s.r.IntN(8)) }
	cfg := ref()
	if s.r.IntN(2) == 0 && s.api.get(string(wire.KindConfigMap), "default/"+cfg) == nil {
		s.api.create(string(wire.KindConfigMap), map[string]any{"metadata": s.meta("default", cfg)}, user)
	}
	spec := map[string]any{
		"volumes": []any{
			map[string]any{"name": "a", "configMap": map[string]any{"name": cfg, "optional": s.r.IntN(2) == 0}},
			map[string]any{"name": "b", "secret": map[string]any{"secretName": ref(), "optional": s.r.IntN(3) > 0}},
		},
		"containers": []any{map[string]any{"name": "c", "image": "i"}},
	}
	if s.r.IntN(3) == 0 {
		spec["volumes"] = append(spec["volumes"].([]any), map[string]any{"name": "c", "persistentVolumeClaim": map[string]any{"claimName": ref()}})
	}
	if s.r.IntN(3) == 0 {
		spec["enableServiceLinks"] = false
	}
	node := s.anyNode()
	if s.r.IntN(2) == 0 {
		spec["nodeName"] = node
	}
	o := s.api.create(pods, map[string]any{"metadata": s.meta("default", name), "spec": spec}, user)
	if o.node() == "" {
		s.after(s.upTo(2*time.Second), func() {
			if now := s.api.get(pods, o.name); now != nil && now.uid == o.uid {
				s.api.modify(now, "scheduler", func(data map[string]any) { data["spec"].(map[string]any)["nodeName"] = node })
			}
		})
	}
}

func (s *Sim) dropPod() {
	names := s.api.names(pods)
	if len(names) == 0 {
		return
	}
	o := s.api.get(pods, names[s.r.IntN(len(names))])
	s.api.delete(o, s.r.IntN(6) == 0, user)
}

func (s *Sim) putDevice() {
	name := "dev-" + strconv.Itoa(s.r.IntN(5))
	model := "ref-" + strconv.Itoa(s.r.IntN(8))
	o := s.api.get(devices, "default/"+name)
	switch {
	case o == nil:
		s.api.create(devices, map[string]any{
			"metadata": s.meta("default", name),
			"spec":     map[string]any{"nodeName": s.anyNode(), "deviceModelRef": map[string]any{"name": model}},
		}, user)
	case s.r.IntN(4) == 0:
		s.api.delete(o, true, user)
	default:
		node := s.anyNode()
		s.api.modify(o, user, func(data map[string]any) {
			data["metadata"].(map[string]any)["annotations"] = map[string]any{"payload": s.payload()}
			if s.r.IntN(3) == 0 {
				data["spec"] = map[string]any{"nodeName": node, "deviceModelRef": map[string]any{"name": model}}
			}
		})
	}
}

func (s *Sim) labelSomething() {
	resource := []string{pods, nodes}[s.r.IntN(2)]
	names := s.api.names(resource)
	if len(names) == 0 {
		return
	}
	o := s.api.get(resource, names[s.r.IntN(len(names))])
	s.api.modify(o, user, func(data map[string]any) {
		meta := data["metadata"].(map[string]any)
		meta["annotations"] = map[string]any{"payload": s.payload()}
	})
}

// trouble makes the faults that are not part of some other event.
func (s *Sim) trouble() {
	w := &s.world
	a := s.agents[s.r.IntN(len(s.agents))]
	i := s.r.IntN(len(s.relays))
	r := s.relays[i]
	if s.chance(w.AgentCrash) {
		a.crash(s.chance(0.5))
	}
	if s.chance(w.Deaf) {
		a.deafTo = s.now.Add(s.upTo(2 * time.Minute))
		s.note(a.node, "stops reading", "")
	}
	if s.chance(w.Partition) {
		s.partition(a, r)
	}
	if s.chance(w.RelayCrash) && !r.dead && !r.closing {
		r.crash()
		s.replaceRelay(i)
	}
	if s.chance(w.RelayStop) && !r.dead && !r.closing {
		r.stop()
		s.after(3*time.Second, func() {
			if !r.dead {
				r.crash()
				s.replaceRelay(i)
			}
		})
	}
	if s.chance(w.APICut) && !r.dead {
		r.cutTo = s.now.Add(s.upTo(2 * time.Minute))
		s.note(r.who, "cut off", "from the API server until "+clock(r.cutTo.Sub(s.began)))
	}
	if s.chance(w.APIDown) && !s.api.down {
		s.api.down = true
		s.note("api", "down", "")
		s.after(s.upTo(2*time.Minute), func() { s.api.down = false; s.note("api", "up", "") })
	}
}

func (s *Sim) replaceRelay(i int) {
	life := s.relays[i].life
	s.after(s.upTo(s.world.down()), func() { s.relays[i] = s.startRelay(i, life+1) })
}

// partition cuts an agent off from one relay or from all, or a relay from all agents, for a while.
func (s *Sim) partition(a *agent, r *relay) {
	p := cutoff{node: a.node, relay: r.who, until: s.now.Add(s.upTo(3 * time.Minute))}
	switch s.r.IntN(3) {
	case 0:
		p.node = ""
	case 1:
		p.relay = ""
	}
	s.cutoffs = append(s.cutoffs, p)
	s.note("network", "cut", fmt.Sprintf("%q from %q until %s", p.node, p.relay, clock(p.until.Sub(s.began))))
}

// cutoff is a partition: empty names stand for all.
type cutoff struct {
	node, relay string
	until       time.Time
}

func (s *Sim) partitioned(a *agent, r *relay) bool {
	for i := range s.cutoffs {
		p := &s.cutoffs[i]
		if s.now.Before(p.until) && (p.node == "" || p.node == a.node) && (p.relay == "" || p.relay == r.who) {
			return true
		}
	}
	return false
}
