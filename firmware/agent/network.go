package agent

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/cni"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// newNetwork returns what gives pods a network where no other CNI does.
func (a *Agent) newNetwork() (*cni.Keeper, error) {
	n := a.cfg.Pods.Network
	ranges, err := cni.ParseRanges(n.CIDRs, a.cfg.Pods.Max)
	if err != nil {
		return nil, fmt.Errorf("pods.network.cidrs: %w", err)
	}
	return cni.New(cni.Options{
		Node: a.cfg.Node.Name, Desired: a.desired, Changed: a.desired.Watch(wire.KindNode).C(), Runtime: a.runtime,
		Log:      a.log.With("part", "network"),
		Disabled: !n.Enabled, Ranges: ranges, Masquerade: n.Masquerade, MTU: n.MTU, Dir: n.Dir,
		Warn: a.warnNode("PodNetwork"), Awaited: a.bringsCNI, Complete: a.whole.Complete,
	}), nil
}

// bringsCNI names a pod that is bound to this gateway, stays, and writes to the runtime's folder of CNI configurations; "" if there is none.
// One that needs a network itself, as those that add a link to another CNI's chain may, is none that brings it.
func (a *Agent) bringsCNI(dir string) string {
	for _, o := range a.desired.List(wire.KindPod) {
		var p corev1.Pod
		if _, err := p.UnmarshalMsg(o.Body); o.Absent || err != nil {
			continue // the pods' own part tells
		}
		if writesTo(&p, dir) {
			return p.Metadata.Namespace + "/" + p.Metadata.Name
		}
	}
	return ""
}

func writesTo(p *corev1.Pod, dir string) bool {
	always := p.Spec.RestartPolicy == "" || p.Spec.RestartPolicy == "Always" // as all of a DaemonSet have; a Job that tidies up does not
	if !always || !p.Spec.HostNetwork || p.Metadata.DeletionTimestamp != nil {
		return false
	}
	mounts := func(volume string) func(corev1.Container) bool {
		return func(c corev1.Container) bool {
			return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume && !m.ReadOnly })
		}
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.HostPath == nil || !holds(v.HostPath.Path, dir) {
			continue
		}
		if slices.ContainsFunc(p.Spec.Containers, mounts(v.Name)) || slices.ContainsFunc(p.Spec.InitContainers, mounts(v.Name)) {
			return true
		}
	}
	return false
}

// holds reports whether path is dir or a folder above it; the root of the file system is what monitoring mounts, and no sign.
func holds(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || path != "/" && strings.HasPrefix(dir, path+"/")
}
