package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// view is what an agent reads of an object's body.
type view struct {
	version  wire.Version
	refs     []reference
	deleting bool
	payload  string // what the load wrote last
}

type reference struct {
	key      wire.Key
	optional bool
}

// view decodes what is held at k, once for each version.
func (a *agent) view(k wire.Key) *view {
	o, ok := a.store.Get(k)
	if !ok || o.Absent {
		return nil
	}
	if v := a.views[k]; v != nil && v.version == o.Version {
		return v
	}
	v := &view{version: o.Version}
	data, err := canon.ToValue(o.Body)
	if err != nil {
		a.s.fail("body", "%s holds %s, which cannot be read: %v", a.node, k, err)
		return v
	}
	v.refs = referencesOf(k.Kind(), data)
	v.deleting = dig(data, "metadata", "deletionTimestamp") != nil
	v.payload = payloadOf(data)
	a.views[k] = v
	return v
}

// payloadOf reads the counter that the load writes into every object.
func payloadOf(data any) string {
	if p, _ := first(dig(data, "spec", "ports"), "name").(string); p != "" {
		return p // of a Service nothing else travels
	}
	p, _ := dig(data, "metadata", "annotations", "payload").(string)
	return p
}

// referencesOf reads the references that the load writes: volumes of pods, the volume of a claim, the model of a device.
func referencesOf(kind wire.Kind, data any) []reference {
	ns, _ := dig(data, "metadata", "namespace").(string)
	var refs []reference
	add := func(kind wire.Kind, name any, optional any) {
		if n, ok := name.(string); ok && n != "" {
			o, _ := optional.(bool)
			refs = append(refs, reference{wire.NewKey(kind, ns, n, ""), o})
		}
	}
	switch kind {
	case wire.KindPod:
		volumes, _ := dig(data, "spec", "volumes").([]any)
		for _, v := range volumes {
			add(wire.KindConfigMap, dig(v, "configMap", "name"), dig(v, "configMap", "optional"))
			add(wire.KindSecret, dig(v, "secret", "secretName"), dig(v, "secret", "optional"))
			add(wire.KindPersistentVolumeClaim, dig(v, "persistentVolumeClaim", "claimName"), false)
		}
	case wire.KindPersistentVolumeClaim:
		ns = ""
		add(wire.KindPersistentVolume, dig(data, "spec", "volumeName"), false)
	case wire.KindDevice:
		add(wire.KindDeviceModel, dig(data, "spec", "deviceModelRef", "name"), true)
	}
	return refs
}

// document is a status document that carries the report's counter, in each of its parts that go to an object of their own.
func (a *agent) document(k wire.Key, n uint64) []byte {
	count := strconv.FormatUint(n, 10)
	ready := map[string]any{"type": "Ready", "status": "True", "reason": "Sim", "message": count}
	var doc map[string]any
	switch k.Kind() {
	case wire.KindNode:
		doc = map[string]any{
			"labels": map[string]any{"kubernetes.io/arch": "arm"},
			"status": map[string]any{"conditions": []any{ready}, "nodeInfo": map[string]any{"bootID": count}},
		}
	case wire.KindPod:
		doc = map[string]any{"status": map[string]any{"phase": "Running", "message": count}}
		if c := a.runtime[k.UID()]; c != nil && c.gone {
			doc = map[string]any{"deleted": true, "n": count}
		}
	case wire.KindDevice:
		doc = map[string]any{
			"observedGeneration": int64(1),
			"conditions":         []any{ready},
			"deviceStatus": map[string]any{"twins": []any{
				map[string]any{"propertyName": "n", "reported": map[string]any{"value": count}},
			}},
		}
	}
	return encode(doc)
}

// counterOf reads the counter of a status document.
func counterOf(body []byte) uint64 {
	v, err := canon.ToValue(body)
	if err != nil {
		return 0
	}
	for _, at := range []any{
		dig(v, "status", "nodeInfo", "bootID"), dig(v, "status", "message"), dig(v, "n"),
		first(dig(v, "conditions"), "message"),
	} {
		if n := number(at); n > 0 {
			return n
		}
	}
	return 0
}

// reportedIn reads the counter of a report out of the API object that it was written to.
func reportedIn(o *object) uint64 {
	switch o.resource {
	case nodes:
		return number(dig(o.data, "status", "nodeInfo", "bootID"))
	case pods:
		return number(dig(o.data, "status", "message"))
	case devices:
		return number(first(dig(o.data, "status", "conditions"), "message"))
	case deviceStatuses:
		twins, _ := dig(o.data, "status", "twins").([]any)
		if len(twins) > 0 {
			return number(dig(twins[0], "reported", "value"))
		}
	}
	return 0
}

func first(list any, field string) any {
	l, _ := list.([]any)
	if len(l) == 0 {
		return nil
	}
	return dig(l[0], field)
}

func number(v any) uint64 {
	s, _ := v.(string)
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func eventBody(node string, n int) []byte {
	return encode(map[string]any{
		"ref":  map[string]any{"kind": "Node", "name": node},
		"type": "Normal", "reason": "Sim", "message": strconv.Itoa(n),
		"time": time.Unix(int64(n), 0).UTC().Format(time.RFC3339Nano), "count": int64(1), "component": "sim",
	})
}

// itemOf reads epoch and sequence out of an event's name: NODE.EPOCH.SEQ, hexadecimal.
func itemOf(name string) (node string, item [2]uint64, ok bool) {
	name = name[strings.IndexByte(name, '/')+1:]
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return "", item, false
	}
	if _, err := fmt.Sscanf(parts[1]+" "+parts[2], "%x %x", &item[0], &item[1]); err != nil {
		return "", item, false
	}
	return parts[0], item, true
}

func encode(v map[string]any) []byte {
	b, err := canon.FromValue(v)
	if err != nil {
		panic(err) // only of values that canon cannot encode
	}
	return b
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func uidOf(n int) types.UID { return types.UID("u-" + strconv.Itoa(n)) }
