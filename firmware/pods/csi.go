package pods

import "fmt"

// CSIVolume is one volume of a Container Storage Interface driver that a pod wants.
type CSIVolume struct {
	Driver string // its name, such as ebs.csi.aws.com
	Handle string // what the driver calls the volume
	Volume string // the persistentVolume's name
}

// CSI mounts volumes of Container Storage Interface drivers. It is the seam for them: there is no implementation in this release, and
// pods that want such a volume wait with a reason (Kubernetes binds claims to volumes that exist, so that it is shown where it matters).
// An implementation has to find the driver's socket, and to call NodeStageVolume and NodePublishVolume.
type CSI interface {
	// Mount makes a volume available and returns where it is on this gateway. It is called again for a volume that is mounted, may
	// block, and may be called by several goroutines.
	Mount(v CSIVolume) (path string, err error)
}

// noCSI refuses all of them, in the kubelet's words.
type noCSI struct{}

// Mount implements CSI.
func (noCSI) Mount(v CSIVolume) (string, error) {
	return "", fmt.Errorf("driver name %s not found in the list of registered CSI drivers: CSI volumes are not supported at the edge yet, use a local or hostPath persistentVolume (volume %q)", v.Driver, v.Volume)
}
