package pods

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// defaultGrace is the time in seconds between SIGTERM and SIGKILL if a pod does not say.
const defaultGrace = 30

// desiredPod is a pod that this node should run. It is immutable once decoded.
type desiredPod struct {
	key      wire.Key
	version  wire.Version
	revision uint64
	pod      corev1.Pod
	refused  string            // why it cannot run here; "" if it can
	barred   map[string]string // ephemeral containers that cannot run here, by name, and why
	unread   bool              // the store could not read it: nothing is known but that it is wanted
	refs     bool              // whether it uses configMaps, secrets, claims or a runtime class
	file     bool              // a static pod: it comes from a file on the gateway
}

// decodePod decodes a desired object and fills in what the API server would have. A body that cannot be decoded gives a pod
// that is refused, so that its owner can see it.
func (t *fieldTable) decodePod(o wire.Object) *desiredPod {
	d := &desiredPod{key: o.Key, version: o.Version, revision: o.Revision}
	_, err := d.pod.UnmarshalMsg(o.Body)
	meta := &d.pod.Metadata
	meta.Namespace, meta.Name, meta.UID = o.Key.Namespace(), o.Key.Name(), o.Key.UID()
	fillDefaults(&d.pod.Spec)
	if len(o.Body) == 0 {
		d.unread = true
		return d
	}
	if err != nil {
		d.refused = fmt.Sprintf("the pod cannot be decoded: %v: it may be from a newer Kubernetes than this agent knows", err)
		return d
	}
	doc, err := canon.ToValue(o.Body)
	if err != nil {
		d.refused = fmt.Sprintf("the pod cannot be decoded: %v", err)
		return d
	}
	if m, ok := doc.(map[string]any); ok {
		v := t.check(m["spec"])
		d.refused = joinSome(slices.Concat(v.refused, checkMeaning(&d.pod), namedElsewhere(&d.pod.Spec)))
		d.bar(v.barred)
	}
	d.refs = usesReferences(&d.pod.Spec)
	return d
}

// terminating reports whether the pod is being deleted.
func (d *desiredPod) terminating() bool { return d.pod.Metadata.DeletionTimestamp != nil }

// grace returns how many seconds the pod's containers have to end.
func (d *desiredPod) grace() int64 {
	if g := d.pod.Metadata.DeletionGracePeriodSeconds; g != nil && d.terminating() {
		return *g
	}
	return *d.pod.Spec.TerminationGracePeriodSeconds
}

// ref names the pod in events.
func (d *desiredPod) ref(fieldPath string) wire.ObjectRef {
	m := &d.pod.Metadata
	return wire.ObjectRef{APIVersion: "v1", Kind: "Pod", Namespace: m.Namespace, Name: m.Name, UID: m.UID, FieldPath: fieldPath}
}

func fillDefaults(s *corev1.PodSpec) {
	setDefault(&s.RestartPolicy, restartAlways)
	setDefault(&s.DNSPolicy, "ClusterFirst")
	if s.TerminationGracePeriodSeconds == nil || *s.TerminationGracePeriodSeconds < 0 {
		g := int64(defaultGrace)
		s.TerminationGracePeriodSeconds = &g
	}
	for _, c := range allContainers(s) {
		setDefault(&c.TerminationMessagePath, "/dev/termination-log")
		setDefault(&c.TerminationMessagePolicy, "File")
		setDefault(&c.ImagePullPolicy, defaultPullPolicy(c.Image))
		for j := range c.Ports {
			setDefault(&c.Ports[j].Protocol, "TCP")
		}
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if p != nil {
				setDefault(&p.PeriodSeconds, 10)
				setDefault(&p.TimeoutSeconds, 1)
				setDefault(&p.SuccessThreshold, 1)
				setDefault(&p.FailureThreshold, 3)
			}
		}
	}
}

// checkMeaning refuses what the table of fields cannot see: combinations of values, and names that could leave their folder.
func checkMeaning(p *corev1.Pod) (refused []string) {
	if len(p.Spec.Containers) == 0 {
		refused = append(refused, "spec.containers: a pod needs at least one container")
	}
	switch p.Spec.RestartPolicy {
	case restartAlways, restartOnFailure, restartNever:
	default:
		refused = append(refused, fmt.Sprintf("spec.restartPolicy: %q is unknown: use Always, OnFailure or Never", p.Spec.RestartPolicy))
	}
	for _, name := range []string{p.Metadata.UID, p.Metadata.Name, p.Metadata.Namespace} {
		if !safeName(name) {
			refused = append(refused, fmt.Sprintf("metadata: %q cannot be the name of a folder", name))
		}
	}
	seen := map[string]bool{}
	for _, c := range allContainers(&p.Spec) {
		if !safeName(c.Name) || seen[c.Name] {
			refused = append(refused, fmt.Sprintf("spec.containers: the name %q is used twice or is no name", c.Name))
		}
		seen[c.Name] = true
	}
	volumes := map[string]bool{}
	for i, v := range p.Spec.Volumes {
		where := fmt.Sprintf("spec.volumes[%d]", i)
		if !safeName(v.Name) || volumes[v.Name] {
			refused = append(refused, fmt.Sprintf("%s.name: %q is used twice or is no name", where, v.Name))
		}
		volumes[v.Name] = true
		if h := v.HostPath; h != nil && !path.IsAbs(h.Path) {
			refused = append(refused, where+".hostPath.path: must be absolute")
		}
	}
	for _, c := range allContainers(&p.Spec) {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				refused = append(refused, fmt.Sprintf("container %q: volumeMounts names the volume %q, which spec.volumes lacks", c.Name, m.Name))
			}
		}
	}
	return slices.Concat(refused, checkUsers(&p.Spec), checkSignals(&p.Spec))
}

// safeName reports whether s can be one element of a path.
func safeName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 253 && !strings.ContainsAny(s, "/\x00")
}

func usesReferences(s *corev1.PodSpec) bool {
	fromRef := func(e corev1.EnvVar) bool {
		return e.ValueFrom != nil && (e.ValueFrom.ConfigMapKeyRef != nil || e.ValueFrom.SecretKeyRef != nil)
	}
	for _, c := range allContainers(s) {
		if len(c.EnvFrom) > 0 || slices.ContainsFunc(c.Env, fromRef) {
			return true
		}
	}
	return len(s.ImagePullSecrets) > 0 || s.RuntimeClassName != nil || slices.ContainsFunc(s.Volumes, func(v corev1.Volume) bool {
		return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	})
}
