package kube

import (
	"slices"

	"github.com/skerry/skerry/firmware/wire"
)

// Containers have variables for each Service of their pod's namespace (enableServiceLinks), and always for default/kubernetes. So a
// node holds the Services of the namespaces in which it has such a pod. These are no references by name: a pod need not change for
// another Service to concern it. What is sent of one is little, and changes rarely: no labels, no selector, no status; and Services
// without an address (headless, ExternalName) give no variables and go nowhere.

// kubernetesService is what every pod gets variables for.
const kubernetesService = wire.Key("services/default/kubernetes")

// everywhere is the pseudo-namespace of what concerns every pod.
const everywhere = ""

// serviceSet is the Services that concern the pods of one namespace.
type serviceSet struct {
	keys  []wire.Key     // sorted
	nodes map[string]int // how many pods each node has there that want to know of them
}

// trimService keeps what variables are made of.
func trimService(res resource, obj map[string]any) map[string]any {
	meta, spec := child(obj, "metadata"), child(obj, "spec")
	var ports []any
	for p := range items(spec, "ports") {
		ports = append(ports, pick(p, "name", "port", "protocol"))
	}
	kept := pick(spec, "clusterIP")
	if len(ports) > 0 {
		kept["ports"] = ports
	}
	return map[string]any{
		"apiVersion": res.apiVersion(), "kind": res.apiKind,
		"metadata": pick(meta, "name", "namespace", "uid"), "spec": kept,
	}
}

func pick(from map[string]any, names ...string) map[string]any {
	out := make(map[string]any, len(names)+1)
	for _, n := range names {
		if v, ok := from[n]; ok && v != nil {
			out[n] = v
		}
	}
	return out
}

func hasAddress(service map[string]any) bool {
	ip := text(child(service, "spec"), "clusterIP")
	return ip != "" && ip != "None"
}

func (x *Index) serviceSetLocked(namespace string) *serviceSet {
	set := x.services[namespace]
	if set == nil {
		set = &serviceSet{nodes: make(map[string]int)}
		x.services[namespace] = set
	}
	return set
}

// concerns returns the namespaces whose Services r is one of, or wants to know of.
func (r *record) concerns() []string {
	switch kind := r.kind(); {
	case kind == wire.KindService && r.links && r.key == kubernetesService, kind == wire.KindPod && r.node != "" && r.links:
		return []string{r.key.Namespace(), everywhere}
	case kind == wire.KindService && r.links:
		return []string{r.key.Namespace()}
	case kind == wire.KindPod && r.node != "":
		return []string{everywhere}
	}
	return nil
}

func (r *record) kind() wire.Kind {
	if r == nil {
		return ""
	}
	return r.key.Kind()
}

// relinkServicesLocked keeps the sets when old becomes r. A node hears of a namespace's Services when its first pod there comes, and
// when its last one has gone, not with each pod.
func (x *Index) relinkServicesLocked(old, r *record, c *changes) {
	for _, namespace := range r.concerns() {
		set := x.serviceSetLocked(namespace)
		if r.kind() == wire.KindService {
			if i, there := slices.BinarySearch(set.keys, r.key); !there {
				set.keys = slices.Insert(set.keys, i, r.key)
			}
		} else if set.nodes[r.node]++; set.nodes[r.node] == 1 {
			x.tellOfServicesLocked(r.node, set, c)
		}
	}
	stays := r.concerns()
	for _, namespace := range old.concerns() {
		set := x.serviceSetLocked(namespace)
		if old.kind() == wire.KindService {
			if i, there := slices.BinarySearch(set.keys, old.key); there && !slices.Contains(stays, namespace) {
				set.keys = slices.Delete(set.keys, i, i+1)
			}
		} else if set.nodes[old.node]--; set.nodes[old.node] == 0 {
			delete(set.nodes, old.node)
			x.tellOfServicesLocked(old.node, set, c)
		}
		if len(set.keys) == 0 && len(set.nodes) == 0 {
			delete(x.services, namespace)
		}
	}
}

func (x *Index) tellOfServicesLocked(node string, set *serviceSet, c *changes) {
	for _, key := range set.keys {
		x.callLocked(node, key, c)
	}
}

// collectServiceLocked notes the notifications that a change of a Service causes.
func (x *Index) collectServiceLocked(r *record, c *changes) {
	for _, namespace := range r.concerns() {
		set := x.services[namespace]
		if set == nil {
			continue
		}
		for node := range set.nodes {
			x.callLocked(node, r.key, c)
		}
	}
}

// seesService reports whether a node has a pod that the Service concerns.
func (x *Index) seesService(node string, key wire.Key) bool {
	for _, namespace := range x.lookup(key).concerns() {
		if set := x.services[namespace]; set != nil && set.nodes[node] > 0 {
			return true
		}
	}
	return false
}

// servicesOf returns the Services that concern a pod. The caller must not keep or change them.
func (x *Index) servicesOf(pod *record) (namespaced, common []wire.Key) {
	if pod.kind() != wire.KindPod {
		return nil, nil
	}
	if set := x.services[pod.key.Namespace()]; set != nil && pod.links {
		namespaced = set.keys
	}
	if set := x.services[everywhere]; set != nil && (!pod.links || pod.key.Namespace() != kubernetesService.Namespace()) {
		common = set.keys
	}
	return namespaced, common
}

// travels returns all that r must travel with: what it names, and the Services that concern it. Sorted; the caller does not change it.
func (x *Index) travels(r *record) []wire.Key {
	all := x.named(r)
	namespaced, common := x.servicesOf(r)
	if len(namespaced)+len(common) == 0 {
		return all
	}
	all = slices.Concat(all, namespaced, common)
	slices.Sort(all)
	return slices.Compact(all)
}
