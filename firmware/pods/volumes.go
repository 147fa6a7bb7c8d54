package pods

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// volumes prepares one pod's volumes below its folder, and takes them away again.
type volumes struct {
	dir            string // the pod's folder
	refs           references
	facts          *facts
	mount          Mounter
	csi            CSI
	onRootMismatch bool                                            // fsGroupChangePolicy
	token          func(s *corev1.TokenProjection) (string, error) // a service account token of the pod
}

// Folder names are the kubelet's, because tools look for them.
const (
	pluginConfigMap = "kubernetes.io~configmap"
	pluginSecret    = "kubernetes.io~secret" //nolint:gosec // a folder's name
	pluginProjected = "kubernetes.io~projected"
	pluginDownward  = "kubernetes.io~downward-api"
	pluginEmptyDir  = "kubernetes.io~empty-dir"
)

func (v *volumes) path(plugin, name string) string {
	return filepath.Join(v.dir, volumesFolder, plugin, name)
}

// prepare brings all volumes up to date and returns each one's path on the host. It may be called again at any time: volumes
// that are in use are updated in place.
func (v *volumes) prepare(spec *corev1.PodSpec) (map[string]string, error) {
	group := -1
	if sc := spec.SecurityContext; sc != nil && sc.FSGroup != nil {
		group = int(*sc.FSGroup)
		v.onRootMismatch = sc.FSGroupChangePolicy != nil && *sc.FSGroupChangePolicy == "OnRootMismatch"
	}
	paths := make(map[string]string, len(spec.Volumes))
	for i := range spec.Volumes {
		vol := &spec.Volumes[i]
		host, err := v.prepareOne(vol, group)
		if err != nil {
			if w, ok := errors.AsType[*waitError](err); ok {
				return nil, waitFor("ContainerCreating", "volume %q: %s", vol.Name, w.message)
			}
			return nil, waitFor("ContainerCreating", "volume %q: %v", vol.Name, err)
		}
		paths[vol.Name] = host
	}
	return paths, nil
}

func (v *volumes) prepareOne(vol *corev1.Volume, group int) (string, error) {
	switch {
	case vol.HostPath != nil:
		return vol.HostPath.Path, checkHostPath(vol.HostPath)
	case vol.Image != nil:
		return "", nil // the runtime mounts it itself
	case vol.PersistentVolumeClaim != nil, vol.Ephemeral != nil:
		return v.claimed(vol, group)
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		p, mode := payload{}, modeOf(s.DefaultMode)
		if err := v.addObject(p, wire.KindConfigMap, s.Name, s.Items, s.Optional, mode); err != nil {
			return "", err
		}
		return v.write(pluginConfigMap, vol.Name, p, group)
	case vol.Secret != nil:
		s := vol.Secret
		p, mode := payload{}, modeOf(s.DefaultMode)
		if err := v.addObject(p, wire.KindSecret, s.SecretName, s.Items, s.Optional, mode); err != nil {
			return "", err
		}
		return v.writeSecret(pluginSecret, vol.Name, p, group)
	case vol.Downward != nil:
		p := payload{}
		if err := v.addDownward(p, vol.Downward.Items, modeOf(vol.Downward.DefaultMode)); err != nil {
			return "", err
		}
		return v.write(pluginDownward, vol.Name, p, group)
	case vol.Projected != nil:
		p, secrets, err := v.project(vol.Projected, group)
		switch {
		case err != nil:
			return "", err
		case secrets:
			return v.writeSecret(pluginProjected, vol.Name, p, group)
		}
		return v.write(pluginProjected, vol.Name, p, group)
	default: // an empty source is an emptyDir: the encoder drops "emptyDir": {}
		return v.emptyDir(vol, group)
	}
}

func modeOf(mode *int32) os.FileMode {
	if mode == nil {
		return 0o644
	}
	return os.FileMode(*mode) & os.ModePerm //nolint:gosec // masked
}

func (v *volumes) write(plugin, name string, p payload, group int) (string, error) {
	dir := v.path(plugin, name)
	_, err := writePayload(dir, p, group)
	return dir, err
}

// writeSecret keeps the volume in memory: the store seals secrets, and the flash must not get them in plain text this way.
func (v *volumes) writeSecret(plugin, name string, p payload, group int) (string, error) {
	dir := v.path(plugin, name)
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return "", err
	}
	if _, err := v.mount.Tmpfs(dir, 0); err != nil {
		return "", err
	}
	return v.write(plugin, name, p, group)
}

// addObject adds a configMap's or secret's keys, or those that items select.
func (v *volumes) addObject(p payload, kind wire.Kind, name string, items []corev1.KeyToPath, optional *bool, mode os.FileMode) error {
	data, err := v.refs.data(kind, name, optional)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		for k, b := range data {
			if err := p.add(k, b, mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		b, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return waitFor(reasonConfigError, "%s %q has no key %q", kind, name, item.Key)
		}
		m := mode
		if item.Mode != nil {
			m = modeOf(item.Mode)
		}
		if err := p.add(item.Path, b, m); err != nil {
			return err
		}
	}
	return nil
}

func (v *volumes) addDownward(p payload, items []corev1.DownwardFile, mode os.FileMode) error {
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = v.facts.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = v.facts.resource(item.ResourceFieldRef.ContainerName, item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		m := mode
		if item.Mode != nil {
			m = modeOf(item.Mode)
		}
		if err := p.add(item.Path, []byte(value), m); err != nil {
			return err
		}
	}
	return nil
}

// project makes the content of a projected volume, and tells whether there are secrets in it.
func (v *volumes) project(s *corev1.ProjectedVolume, group int) (p payload, secrets bool, err error) {
	p, mode := payload{}, modeOf(s.DefaultMode)
	for _, src := range s.Sources {
		switch {
		case src.ConfigMap != nil:
			err = v.addObject(p, wire.KindConfigMap, src.ConfigMap.Name, src.ConfigMap.Items, src.ConfigMap.Optional, mode)
		case src.Secret != nil:
			secrets = true
			err = v.addObject(p, wire.KindSecret, src.Secret.Name, src.Secret.Items, src.Secret.Optional, mode)
		case src.Downward != nil:
			err = v.addDownward(p, src.Downward.Items, mode)
		case src.ServiceAccountToken != nil:
			secrets = true
			err = v.addToken(p, src.ServiceAccountToken, mode, group)
		}
		if err != nil {
			return nil, false, err
		}
	}
	return p, secrets, nil
}

// emptyDir makes a folder that everybody may write to, on disk or in memory. One that is there already is left as it is:
// its mode and owner are the containers' (a database refuses a data folder that others may read).
func (v *volumes) emptyDir(vol *corev1.Volume, group int) (string, error) {
	dir := v.path(pluginEmptyDir, vol.Name)
	if e := vol.EmptyDir; e != nil && e.Medium == "Memory" {
		var size int64
		if e.SizeLimit != nil {
			size = whole(*e.SizeLimit)
		}
		if err := os.MkdirAll(dir, folderMode); err != nil {
			return "", err
		}
		if mounted, err := v.mount.Tmpfs(dir, size); err != nil || !mounted {
			return dir, err
		}
		return dir, openToAll(dir, group)
	}
	if _, err := os.Lstat(dir); err == nil {
		return dir, nil
	}
	next := dir + nextSuffix // no volume has this name: it has a dot
	if err := os.MkdirAll(next, folderMode); err != nil {
		return "", err
	}
	if err := openToAll(next, group); err != nil {
		return "", err
	}
	return dir, os.Rename(next, dir)
}

// openToAll lets every user write to a folder, and makes the group own what is made in it.
func openToAll(dir string, group int) error {
	mode := os.FileMode(0o777)
	if group >= 0 {
		if err := os.Chown(dir, -1, group); err != nil {
			return err
		}
		mode |= os.ModeSetgid
	}
	return os.Chmod(dir, mode)
}

// checkHostPath holds a path on the gateway to its type, and makes it where the type says so.
func checkHostPath(h *corev1.HostPathVolume) error {
	kind := ""
	if h.Type != nil {
		kind = *h.Type
	}
	info, err := os.Stat(h.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case kind == "":
		return nil
	case missing && kind == "DirectoryOrCreate":
		return os.MkdirAll(h.Path, folderMode)
	case missing && kind == "FileOrCreate":
		f, err := os.OpenFile(h.Path, os.O_CREATE|os.O_RDONLY, 0o644) //nolint:gosec // as in Kubernetes
		if err != nil {
			return fmt.Errorf("hostPath %s: %w", h.Path, err)
		}
		return f.Close()
	case missing:
		return fmt.Errorf("hostPath %s: no such path on this gateway (type %s): create it there or correct the path", h.Path, kind)
	case err != nil:
		return fmt.Errorf("hostPath: %w", err)
	}
	mode := info.Mode()
	is := map[string]bool{
		"Directory": mode.IsDir(), "DirectoryOrCreate": mode.IsDir(), "File": mode.IsRegular(), "FileOrCreate": mode.IsRegular(),
		"Socket": mode.Type() == fs.ModeSocket, "CharDevice": mode.Type() == fs.ModeDevice|fs.ModeCharDevice, "BlockDevice": mode.Type() == fs.ModeDevice,
	}
	ok, known := is[kind]
	if !known {
		return fmt.Errorf("hostPath %s: type %q is unknown: use Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice or BlockDevice", h.Path, kind)
	}
	if !ok {
		return fmt.Errorf("hostPath %s: is not of type %s, but %s", h.Path, kind, mode)
	}
	return nil
}

// filledVolumes tells which volumes of a pod the agent fills.
func filledVolumes(spec *corev1.PodSpec) map[string]bool {
	filled := map[string]bool{}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		filled[v.Name] = v.ConfigMap != nil || v.Secret != nil || v.Downward != nil || v.Projected != nil
	}
	return filled
}

// removePodDir unmounts what is mounted below a pod's folder and removes it: parts of volumes, tmpfs, and what a container has mounted in a volume
// with mountPropagation Bidirectional. What cannot be unmounted keeps the folder, so that nothing is ever deleted through a mount.
func removePodDir(dir string, mount Mounter) error {
	if err := unmountBelow(dir, mount); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// removeVolumes removes the volumes of a pod that has ended, and what they hold, as a kubelet does: what was evicted because it had filled the disk must
// not go on filling it until somebody deletes the pod.
func removeVolumes(dir string, mount Mounter) error {
	if err := unmountBelow(dir, mount); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(dir, volumesFolder)), os.RemoveAll(filepath.Join(dir, subPathsFolder)))
}

func unmountBelow(dir string, mount Mounter) error {
	if err := unmountSubPaths(dir, mount); err != nil {
		return fmt.Errorf("remove pod folder: %w", err)
	}
	mounts, err := mount.Below(dir)
	if err != nil {
		return fmt.Errorf("remove pod folder: %w", err)
	}
	for _, at := range slices.Backward(mounts) {
		if err := mount.Unmount(at); err != nil {
			return fmt.Errorf("remove pod folder: %w: nothing is deleted before it is gone; see who uses it (fuser -m), or unmount it by hand", err)
		}
	}
	switch mounts, err := mount.Below(dir); { // one may have been hidden below another
	case err != nil:
		return fmt.Errorf("remove pod folder: %w", err)
	case len(mounts) > 0:
		return fmt.Errorf("remove pod folder: %s is still mounted; nothing is deleted before it is gone", strings.Join(mounts, ", "))
	}
	return nil
}
