package kube

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"maps"
	"net"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// KubeletPortAnnotation is on nodes that have a port of their own at the relays' address, for the kubelet API.
const KubeletPortAnnotation = "skerry.dev/kubelet-port"

// gatewayAddresses is the annotation with the gateway's own addresses where the Node's are the relays'.
const gatewayAddresses = "skerry.dev/gateway-addresses"

// metricsPath is the annotation by which metrics-server (0.7 and later) is told where a node's /metrics/resource is.
const metricsPath = "metrics.k8s.io/resource-metrics-path"

// KubeletEndpoint is where the API server reaches the kubelet API of all nodes: the relays.
type KubeletEndpoint struct {
	Address string // IP address, the Node's InternalIP
	Domain  string // nodes are NAME.Domain, the Node's InternalDNS; empty: they have no names
	Port    int32
}

// podNames finds pods by namespace and name; their keys have the UID behind that. It holds a hash of the name and the key, whose bytes
// are the record's: 50 bytes for each pod.
type podNames struct {
	seed maphash.Seed
	keys map[uint64]wire.Key
}

func newPodNames() podNames {
	return podNames{seed: maphash.MakeSeed(), keys: make(map[uint64]wire.Key)}
}

// hash is of "pods/NAMESPACE/NAME/".
func (p *podNames) hash(prefix string) uint64 { return maphash.String(p.seed, prefix) }

func podPrefix(key wire.Key) string {
	return string(key[:len(key)-len(key.UID())])
}

// nodePorts are the kubelet ports in nodes' annotations; 0 for those without.
type nodePorts struct {
	has     map[string]int
	version uint64 // grows with each change
}

// nameLocked enters r, which is not nil.
func (x *Index) nameLocked(r *record) {
	switch r.key.Kind() {
	case wire.KindPod:
		x.names.keys[x.names.hash(podPrefix(r.key))] = r.key
	case wire.KindNode:
		port, ours := kubeletPort(r.body)
		if was, had := x.ports.has[r.node]; ours && (!had || was != port) {
			x.ports.has[r.node] = port
			x.ports.version++
		}
	}
}

// unnameLocked takes r away, which is not nil.
func (x *Index) unnameLocked(r *record) {
	switch r.key.Kind() {
	case wire.KindPod:
		h := x.names.hash(podPrefix(r.key))
		if x.names.keys[h] == r.key { // unless another of that name has come
			delete(x.names.keys, h)
		}
	case wire.KindNode:
		if _, had := x.ports.has[r.node]; had {
			delete(x.ports.has, r.node)
			x.ports.version++
		}
	}
}

// kubeletPort reads a Node's annotation. ours is false for nodes that are not Skerry's.
func kubeletPort(body []byte) (port int, ours bool) {
	v, err := canon.ToValue(body)
	if err != nil {
		return 0, false
	}
	obj, _ := v.(map[string]any)
	meta := child(obj, "metadata")
	if text(child(meta, "labels"), agentLabel) != "true" {
		return 0, false
	}
	port, err = strconv.Atoi(text(child(meta, "annotations"), KubeletPortAnnotation))
	if err != nil || port < 1 || port > 65535 {
		return 0, true
	}
	return port, true
}

// NodeOfPod returns the node that a pod is bound to, "" if it is bound to none. ok is false if there is no such pod.
func (x *Index) NodeOfPod(namespace, name string) (node string, ok bool) {
	prefix := podPrefix(wire.NewKey(wire.KindPod, namespace, name, "x"))
	x.mu.RLock()
	defer x.mu.RUnlock()
	key, ok := x.names.keys[x.names.hash(prefix)]
	if !ok || !strings.HasPrefix(string(key), prefix) {
		return "", false
	}
	r := x.lookup(key)
	if r == nil {
		return "", false
	}
	return r.node, true
}

// HasNode reports whether there is a Node of that name.
func (x *Index) HasNode(name string) bool { return x.get(nodeKeyOf(name)) != nil }

// KubeletPorts returns the ports in the annotations of Skerry's nodes (0: none), and a number that changes when they do.
func (x *Index) KubeletPorts() (ports map[string]int, version uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return maps.Clone(x.ports.has), x.ports.version
}

func (x *Index) kubeletPortOf(node string) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.ports.has[node]
}

// RecordKubeletPort writes a port into a Node's annotation, unless the Node has changed since the index has heard of it.
func (x *Index) RecordKubeletPort(ctx context.Context, node string, port int) error {
	r := x.get(nodeKeyOf(node))
	if r == nil {
		return nil // gone: nothing to record
	}
	res, _ := resourceOf(wire.KindNode)
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": r.rv, "annotations": map[string]any{KubeletPortAnnotation: strconv.Itoa(port)},
	}})
	if err != nil {
		return err
	}
	_, err = x.opts.Client.Resource(res.gvr).Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// addressRelays makes a Node's status say where its kubelet API is. No Hostname is among the addresses: API servers prefer it, and it
// resolves nowhere.
func (e *KubeletEndpoint) addressRelays(status map[string]any, node string, ownPort int) {
	addresses := []any{map[string]any{"type": "InternalIP", "address": e.Address}}
	if e.Domain != "" {
		addresses = append(addresses, map[string]any{"type": "InternalDNS", "address": node + "." + e.Domain})
	}
	port := int64(e.Port)
	if ownPort != 0 {
		port = int64(ownPort)
	}
	status["addresses"] = addresses
	status["daemonEndpoints"] = map[string]any{"kubeletEndpoint": map[string]any{"Port": port}}
}

// annotate adds what a Node tells of itself beside its status. All nodes share one address: the path says which one metrics-server means.
func (e *KubeletEndpoint) annotate(annotations map[string]any, node string, reported map[string]any) {
	annotations[gatewayAddresses] = ownAddresses(reported)
	annotations[metricsPath] = resourcePath(node)
}

func resourcePath(node string) string { return "/nodes/" + node + "/metrics/resource" }

// unannotate takes away what annotate and RecordKubeletPort wrote while the relays had a kubelet port: metrics-server would ask at an address where nobody
// answers. have are the Node's annotations; nil in changed removes one.
func unannotate(changed map[string]any, node string, have map[string]any) {
	for _, name := range []string{KubeletPortAnnotation, gatewayAddresses, metricsPath} {
		if _, there := have[name]; there && (name != metricsPath || have[name] == resourcePath(node)) {
			changed[name] = nil
		}
	}
}

// ownAddresses returns the gateway's own addresses in its report, for the annotation.
func ownAddresses(status map[string]any) string {
	var out []string
	list, _ := status["addresses"].([]any)
	for _, a := range list {
		m, _ := a.(map[string]any)
		if address := text(m, "address"); net.ParseIP(address) != nil {
			out = append(out, address)
		}
	}
	return strings.Join(out, ",")
}
