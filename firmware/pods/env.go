package pods

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// facts are what fieldRef and resourceFieldRef can ask about a pod and its node.
type facts struct {
	pod         *corev1.Pod
	node        string
	hostIPs     []string
	podIPs      []string
	allocatable corev1.ResourceList // stands in for limits that are not set
	services    map[string]string   // variables that describe Services
}

// environment makes a container's variables: envFrom first, then env in its own order; a later one replaces an earlier one of
// the same name. Variables that describe Services come last, where the container does not set them itself; $(NAME) knows them, too.
func environment(c *corev1.Container, refs references, f *facts) ([]cri.KeyValue, error) {
	vars := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := vars[name]; !ok {
			order = append(order, name)
		}
		vars[name] = value
	}
	for _, from := range c.EnvFrom {
		kind, ref := wire.KindConfigMap, from.ConfigMapRef
		if ref == nil {
			kind, ref = wire.KindSecret, from.SecretRef
		}
		if ref == nil {
			continue
		}
		data, err := refs.data(kind, ref.Name, ref.Optional)
		if err != nil {
			return nil, err
		}
		for _, k := range slices.Sorted(maps.Keys(data)) {
			if name := from.Prefix + k; validEnvName(name) {
				set(name, string(data[k]))
			}
		}
	}
	lookup := func(name string) (string, bool) {
		v, ok := vars[name]
		if !ok {
			v, ok = f.services[name]
		}
		return v, ok
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			set(e.Name, expand(e.Value, lookup))
			continue
		}
		value, found, err := envSource(c, e.ValueFrom, refs, f)
		if err != nil {
			return nil, err
		}
		if found {
			set(e.Name, value)
		}
	}
	out := make([]cri.KeyValue, len(order))
	for i, name := range order {
		out[i] = cri.KeyValue{Key: name, Value: vars[name]}
	}
	return withServices(out, f.services), nil
}

// validEnvName reports whether a key may become a variable; the kubelet skips others, too.
func validEnvName(s string) bool { return s != "" && !strings.ContainsAny(s, "=\x00") }

func envSource(c *corev1.Container, src *corev1.EnvVarSource, refs references, f *facts) (string, bool, error) {
	switch {
	case src.ConfigMapKeyRef != nil:
		v, found, err := refs.key(wire.KindConfigMap, src.ConfigMapKeyRef)
		return string(v), found, err
	case src.SecretKeyRef != nil:
		v, found, err := refs.key(wire.KindSecret, src.SecretKeyRef)
		return string(v), found, err
	case src.FieldRef != nil:
		v, err := f.field(src.FieldRef.FieldPath)
		return v, err == nil, err
	case src.ResourceFieldRef != nil:
		v, err := f.resource(c.Name, src.ResourceFieldRef)
		return v, err == nil, err
	}
	return "", false, nil
}

// field returns a field of the pod as the downward API does.
func (f *facts) field(path string) (string, error) {
	m := &f.pod.Metadata
	if name, key, ok := strings.Cut(strings.TrimSuffix(path, "']"), "['"); ok && strings.HasSuffix(path, "']") {
		switch name {
		case "metadata.labels":
			return m.Labels[key], nil
		case "metadata.annotations":
			return m.Annotations[key], nil
		}
	}
	switch path {
	case "metadata.name":
		return m.Name, nil
	case "metadata.namespace":
		return m.Namespace, nil
	case "metadata.uid":
		return m.UID, nil
	case "metadata.labels":
		return formatMap(m.Labels), nil
	case "metadata.annotations":
		return formatMap(m.Annotations), nil
	case "spec.nodeName":
		return f.node, nil
	case "spec.serviceAccountName":
		return f.pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(f.hostIPs), nil
	case "status.hostIPs":
		return strings.Join(f.hostIPs, ","), nil
	case "status.podIP":
		return first(f.podIPs), nil
	case "status.podIPs":
		return strings.Join(f.podIPs, ","), nil
	}
	return "", waitFor(reasonConfigError, "fieldRef %q is unknown", path)
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// formatMap writes labels as the downward API does: key="value", one a line.
func formatMap(m map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s=%s", k, strconv.Quote(m[k]))
	}
	return b.String()
}

// resource returns a container's request or limit, divided by the divisor and rounded up. A limit that is not set is the node's
// allocatable amount.
func (f *facts) resource(container string, sel *corev1.ResourceFieldSelector) (string, error) {
	name := sel.ContainerName
	if name == "" {
		name = container
	}
	for _, list := range [][]corev1.Container{f.pod.Spec.Containers, f.pod.Spec.InitContainers, f.pod.Spec.EphemeralContainers} {
		for i := range list {
			if list[i].Name == name {
				return f.amount(&list[i].Resources, sel)
			}
		}
	}
	return "", waitFor(reasonConfigError, "resourceFieldRef: the pod has no container %q", name)
}

func (f *facts) amount(r *corev1.ResourceRequirements, sel *corev1.ResourceFieldSelector) (string, error) {
	kind, resource, _ := strings.Cut(sel.Resource, ".")
	var q corev1.Quantity
	switch kind {
	case "limits":
		q = r.Limits[resource]
		if q == "" {
			q = f.allocatable[resource]
		}
	case "requests":
		q = r.Requests[resource]
	default:
		return "", waitFor(reasonConfigError, "resourceFieldRef %q is unknown: use limits.cpu, limits.memory, requests.cpu or requests.memory", sel.Resource)
	}
	if q == "" {
		q = "0"
	}
	divisor := corev1.Quantity("1")
	if sel.Divisor != nil {
		divisor = *sel.Divisor
	}
	have, err := q.Milli()
	if err != nil {
		return "", waitFor(reasonConfigError, "resourceFieldRef %q: %v", sel.Resource, err)
	}
	by, err := divisor.Milli()
	if err != nil {
		return "", waitFor(reasonConfigError, "resourceFieldRef %q: divisor: %v", sel.Resource, err)
	}
	if by <= 0 {
		by = 1000
	}
	quo, rem := new(big.Int).QuoRem(big.NewInt(have), big.NewInt(by), new(big.Int))
	if rem.Sign() > 0 {
		quo.Add(quo, big.NewInt(1))
	}
	return quo.String(), nil
}

// expand replaces $(NAME) by the variable's value; unknown names stay as they are, and $$ is one $
// (k8s.io/kubernetes/third_party/forked/golang/expansion describes the same grammar).
func expand(s string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+end]
			if v, ok := lookup(name); ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
			b.WriteByte(s[i+1])
			i++
		}
	}
	return b.String()
}

// expandAll expands each of a command's words with a container's variables.
func expandAll(words []string, env []cri.KeyValue) []string {
	vars := make(map[string]string, len(env))
	for _, e := range env {
		vars[e.Key] = e.Value
	}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	var out []string
	for _, w := range words {
		out = append(out, expand(w, lookup))
	}
	return out
}
