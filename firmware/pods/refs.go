package pods

import (
	"fmt"
	"strings"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// references resolves the configMaps and secrets of one namespace from the desired view.
type references struct {
	desired   Desired
	namespace string
}

// waitError says that a pod has to wait for something outside of the runtime. Reason is a container's waiting reason.
type waitError struct {
	reason  string
	message string
}

func (e *waitError) Error() string { return e.message }

func waitFor(reason, format string, args ...any) error {
	return &waitError{reason: reason, message: fmt.Sprintf(format, args...)}
}

const reasonConfigError = "CreateContainerConfigError"

// get finds an object's body. found is false, without error, if the object is optional and known not to exist.
func (r references) get(kind wire.Kind, name string, optional *bool) (body []byte, found bool, err error) {
	singular := map[wire.Kind]string{wire.KindConfigMap: "configmap", wire.KindSecret: "secret"}[kind]
	if name == "" {
		return nil, false, waitFor(reasonConfigError, "%s without a name", singular)
	}
	o, ok := r.desired.Get(wire.NewKey(kind, r.namespace, name, ""))
	switch {
	case !ok:
		return nil, false, waitFor(reasonConfigError, "%s %q has not arrived at this node yet", singular, name)
	case o.Absent && optional != nil && *optional:
		return nil, false, nil
	case o.Absent:
		return nil, false, waitFor(reasonConfigError, "%s %q not found as of revision %d", singular, name, o.Revision)
	default:
		return o.Body, true, nil
	}
}

// data returns the values of a configMap or secret by key; nil if it is optional and does not exist.
func (r references) data(kind wire.Kind, name string, optional *bool) (map[string][]byte, error) {
	body, found, err := r.get(kind, name, optional)
	if err != nil || !found {
		return nil, err
	}
	out := map[string][]byte{}
	if kind == wire.KindSecret {
		var s corev1.Secret
		if _, err := s.UnmarshalMsg(body); err != nil {
			return nil, waitFor(reasonConfigError, "secret %q cannot be decoded: %v", name, err)
		}
		for k, v := range s.Data {
			out[k] = v
		}
		return out, nil
	}
	var c corev1.ConfigMap
	if _, err := c.UnmarshalMsg(body); err != nil {
		return nil, waitFor(reasonConfigError, "configmap %q cannot be decoded: %v", name, err)
	}
	for k, v := range c.BinaryData {
		out[k] = v
	}
	for k, v := range c.Data {
		out[k] = []byte(v)
	}
	return out, nil
}

// key returns one value. found is false, without error, if the object or its key is optional and does not exist.
func (r references) key(kind wire.Kind, sel *corev1.KeySelector) (value []byte, found bool, err error) {
	data, err := r.data(kind, sel.Name, sel.Optional)
	if err != nil {
		return nil, false, err
	}
	v, ok := data[sel.Key]
	if !ok && (sel.Optional == nil || !*sel.Optional) {
		return nil, false, waitFor(reasonConfigError, "couldn't find key %q in %s %q: add it there, or correct the name of the key in the pod", sel.Key, strings.TrimSuffix(string(kind), "s"), sel.Name)
	}
	return v, ok, nil
}
