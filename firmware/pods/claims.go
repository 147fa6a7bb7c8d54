package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// pluginLocal is the folder with a symbolic link for each claim of a pod that was resolved, to where its volume is. Once a pod has a
// volume it keeps it, whatever becomes of claim and volume in the cluster, as long as the pod lives.
const pluginLocal = "kubernetes.io~local-volume"

const (
	claimBound      = "Bound"
	volumeModeBlock = "Block"
)

// claimName returns the name of the claim behind a volume of a pod, "" if there is none. The one of a generic ephemeral volume is made
// by the cluster, and called after pod and volume.
func claimName(pod *corev1.Pod, vol *corev1.Volume) string {
	switch {
	case vol.PersistentVolumeClaim != nil:
		return vol.PersistentVolumeClaim.ClaimName
	case vol.Ephemeral != nil:
		return pod.Metadata.Name + "-" + vol.Name
	}
	return ""
}

// claimed returns where the volume of a claim is on this gateway. The first time it is looked up, checked, and given to the pod's
// fsGroup; from then on the pod has it.
func (v *volumes) claimed(vol *corev1.Volume, group int) (string, error) {
	link := v.path(pluginLocal, vol.Name)
	if at, err := os.Readlink(link); err == nil {
		if _, err := os.Stat(at); err != nil {
			return "", fmt.Errorf("the claim's volume is gone from this gateway: %w", err)
		}
		return at, nil
	}
	name := claimName(v.facts.pod, vol)
	claim, err := v.claim(name, vol.Ephemeral != nil)
	if err != nil {
		return "", waitFor(reasonConfigError, "error processing PVC %s/%s: %v", v.refs.namespace, name, err)
	}
	at, err := v.persistentVolume(claim, vol, group)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(link), folderMode); err != nil {
		return "", err
	}
	return at, os.Symlink(at, link)
}

// claim finds a claim that can be used. The errors are the kubelet's words.
func (v *volumes) claim(name string, ephemeral bool) (*corev1.PersistentVolumeClaim, error) {
	o, ok := v.refs.desired.Get(wire.NewKey(wire.KindPersistentVolumeClaim, v.refs.namespace, name, ""))
	switch {
	case !ok:
		return nil, fmt.Errorf("the claim has not arrived at this node yet%s", olderRelay)
	case o.Absent:
		return nil, fmt.Errorf("persistentvolumeclaims %q not found as of revision %d", name, o.Revision)
	}
	c := new(corev1.PersistentVolumeClaim)
	if _, err := c.UnmarshalMsg(o.Body); err != nil {
		return nil, fmt.Errorf("the claim cannot be decoded: %w", err)
	}
	pod := &v.facts.pod.Metadata
	owned := slices.ContainsFunc(c.Metadata.OwnerReferences, func(r corev1.OwnerReference) bool {
		return r.UID == pod.UID && r.Controller != nil && *r.Controller
	})
	switch {
	case ephemeral && !owned:
		return nil, fmt.Errorf("PVC %s/%s was not created for pod %s/%s (pod is not owner): delete that claim, or rename the volume", v.refs.namespace, name, pod.Namespace, pod.Name)
	case c.Metadata.DeletionTimestamp != nil:
		return nil, errors.New("PVC is being deleted")
	case c.Status.Phase != claimBound || c.Spec.VolumeName == "":
		return nil, errors.New("PVC is not bound")
	case c.Spec.VolumeMode == volumeModeBlock:
		return nil, errors.New("the claim has volumeMode Block: raw block volumes are not supported at the edge, use volumeMode Filesystem")
	}
	return c, nil
}

// persistentVolume checks the volume that a claim is bound to, and returns where it is.
func (v *volumes) persistentVolume(claim *corev1.PersistentVolumeClaim, vol *corev1.Volume, group int) (string, error) {
	name := claim.Spec.VolumeName
	o, ok := v.refs.desired.Get(wire.NewKey(wire.KindPersistentVolume, "", name, ""))
	switch {
	case !ok:
		return "", waitFor(reasonConfigError, "persistentvolume %q has not arrived at this node yet: it is sent once its claimRef names this claim", name)
	case o.Absent:
		return "", waitFor(reasonConfigError, "persistentvolume %q not found as of revision %d", name, o.Revision)
	}
	var pv corev1.PersistentVolume
	if _, err := pv.UnmarshalMsg(o.Body); err != nil {
		return "", waitFor(reasonConfigError, "persistentvolume %q cannot be decoded: %v", name, err)
	}
	spec := &pv.Spec
	switch ref := spec.ClaimRef; {
	case ref == nil:
		return "", waitFor(reasonConfigError, "found PV object %s with nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", name)
	case ref.UID != claim.Metadata.UID:
		return "", waitFor(reasonConfigError, "found PV object %s with ClaimRef.UID %q that does not match the expected claim UID %q", name, ref.UID, claim.Metadata.UID)
	case spec.VolumeMode == volumeModeBlock:
		return "", waitFor(reasonConfigError, "persistentvolume %q has volumeMode Block: raw block volumes are not supported at the edge, use volumeMode Filesystem", name)
	}
	if a := spec.NodeAffinity; a != nil && !matchesNodeSelector(a.Required, v.nodeLabels(), v.facts.node) {
		return "", waitFor(reasonConfigError, "MountVolume.NodeAffinity check failed for volume %q: no matching NodeSelectorTerms: the volume belongs to another node", name)
	}
	return v.source(name, spec, vol, group)
}

// source makes a volume ready, by what it is made of. To add a kind of storage, add it here; what it mounts goes below the pod's folder,
// and removePodDir takes it away.
func (v *volumes) source(name string, spec *corev1.PersistentVolumeSpec, vol *corev1.Volume, group int) (string, error) {
	switch {
	case spec.Local != nil:
		info, err := os.Stat(spec.Local.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("path %q does not exist: make it on this gateway, it is the local volume %q", spec.Local.Path, name)
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", fmt.Errorf("local volume %q: %s is not a folder: file systems on block devices have to be mounted by the gateway itself", name, spec.Local.Path)
		}
		readOnly := vol.PersistentVolumeClaim != nil && vol.PersistentVolumeClaim.ReadOnly
		if group < 0 || readOnly {
			return spec.Local.Path, nil
		}
		return spec.Local.Path, ownVolume(spec.Local.Path, group, v.onRootMismatch)
	case spec.HostPath != nil: // Kubernetes changes no owners in it
		return spec.HostPath.Path, checkHostPath(spec.HostPath)
	case spec.CSI != nil:
		return v.csi.Mount(CSIVolume{Driver: spec.CSI.Driver, Handle: spec.CSI.VolumeHandle, Volume: name})
	default:
		return "", fmt.Errorf("persistentvolume %q: volumes of its kind are not supported at the edge: use local or hostPath", name)
	}
}

// nodeLabels are the labels of this node as the cluster has them, and at least its name.
func (v *volumes) nodeLabels() map[string]string {
	if o, ok := v.refs.desired.Get(wire.NewKey(wire.KindNode, "", v.facts.node, "")); ok && !o.Absent {
		var n corev1.Node
		if _, err := n.UnmarshalMsg(o.Body); err == nil {
			return n.Metadata.Labels
		}
	}
	return map[string]string{"kubernetes.io/hostname": v.facts.node}
}

// readOnlyClaims tells which volumes of a pod are claims that it wants to read only.
func readOnlyClaims(spec *corev1.PodSpec) map[string]bool {
	out := map[string]bool{}
	for i := range spec.Volumes {
		if c := spec.Volumes[i].PersistentVolumeClaim; c != nil && c.ReadOnly {
			out[spec.Volumes[i].Name] = true
		}
	}
	return out
}
