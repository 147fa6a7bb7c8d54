package wire

import (
	"fmt"
	"strings"
)

// Kind is the plural, lower-case resource name of an object that crosses the link.
type Kind string

// Clustered reports whether objects of the kind belong to no namespace.
func (k Kind) Clustered() bool {
	return k == KindNode || k == KindPersistentVolume || k == KindRuntimeClass
}

// The kinds that the link carries.
const (
	KindPod         Kind = "pods"
	KindConfigMap   Kind = "configmaps"
	KindSecret      Kind = "secrets"
	KindNode        Kind = "nodes"
	KindDevice      Kind = "devices"
	KindDeviceModel Kind = "devicemodels"

	KindService               Kind = "services"
	KindRuntimeClass          Kind = "runtimeclasses"
	KindPersistentVolumeClaim Kind = "persistentvolumeclaims"
	KindPersistentVolume      Kind = "persistentvolumes"
)

// Kinds lists every kind that the link carries, in the order in which an agent should receive them:
// what is referenced comes before what references it.
func Kinds() []Kind {
	return []Kind{KindNode, KindConfigMap, KindSecret, KindDeviceModel, KindRuntimeClass, KindService,
		KindPersistentVolume, KindPersistentVolumeClaim, KindPod, KindDevice}
}

// Key names one object on the link: KIND/NAMESPACE/NAME, and for pods KIND/NAMESPACE/NAME/UID, because a pod that was
// deleted and made again under the same name is another pod. NAMESPACE is empty for cluster-scoped kinds.
type Key string

// NewKey returns the key of an object. uid is used for pods only.
func NewKey(kind Kind, namespace, name, uid string) Key {
	if kind == KindPod {
		return Key(string(kind) + "/" + namespace + "/" + name + "/" + uid)
	}
	return Key(string(kind) + "/" + namespace + "/" + name)
}

// ParseKey checks a key that came from outside.
func ParseKey(s string) (Key, error) {
	parts := strings.Split(s, "/")
	want := 3
	switch Kind(parts[0]) {
	case KindPod:
		want = 4
	case KindConfigMap, KindSecret, KindNode, KindDevice, KindDeviceModel,
		KindService, KindRuntimeClass, KindPersistentVolumeClaim, KindPersistentVolume:
	default:
		return "", fmt.Errorf("key %q: unknown kind %q", clip(s), clip(parts[0]))
	}
	if len(parts) != want {
		return "", fmt.Errorf("key %q: has %d parts, %s keys have %d", clip(s), len(parts), parts[0], want)
	}
	for i, p := range parts[2:] {
		if p == "" {
			return "", fmt.Errorf("key %q: part %d is empty", clip(s), i+2)
		}
	}
	if Kind(parts[0]).Clustered() != (parts[1] == "") {
		return "", fmt.Errorf("key %q: nodes, persistentvolumes and runtimeclasses have no namespace, all other kinds have one", clip(s))
	}
	return Key(s), nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func (k Key) part(i int) string {
	s := string(k)
	for ; i > 0; i-- {
		j := strings.IndexByte(s, '/')
		if j < 0 {
			return ""
		}
		s = s[j+1:]
	}
	if j := strings.IndexByte(s, '/'); j >= 0 {
		s = s[:j]
	}
	return s
}

// Kind returns the key's kind.
func (k Key) Kind() Kind { return Kind(k.part(0)) }

// Namespace returns the namespace, empty for cluster-scoped kinds.
func (k Key) Namespace() string { return k.part(1) }

// Name returns the object's name.
func (k Key) Name() string { return k.part(2) }

// UID returns a pod's UID, and "" for other kinds.
func (k Key) UID() string { return k.part(3) }
