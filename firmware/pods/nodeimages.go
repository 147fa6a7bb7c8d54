package pods

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// What a node tells of its images, as a kubelet does (nodeStatusMaxImages, pkg/kubelet/nodestatus).
const (
	maxNodeImages = 50
	maxImageNames = 5
	imagesEvery   = time.Minute // a list of images is not asked for at each look
	sysfs         = "/sys"
)

// inventory is what is looked at less often than the node's conditions. It belongs to the nodeReporter's goroutine.
type inventory struct {
	images []corev1.ContainerImage
	at     time.Time
	pages  corev1.ResourceList // huge pages, by resource name
}

// look brings the inventory up to date, if it is time. What the runtime does not tell stays as it was.
func (v *inventory) look(ctx context.Context, m *Manager) {
	if !v.at.IsZero() && time.Since(v.at) < imagesEvery {
		return
	}
	v.pages = pageCapacity(sysfs)
	if m.runtimeUp() != nil {
		return
	}
	ask, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if images, err := m.o.Runtime.ListImages(ask, nil); err == nil {
		v.images, v.at = nodeImages(images), time.Now()
	}
}

// nodeImages makes the node's list: the largest images, with their digests before their tags.
func nodeImages(images []cri.Image) []corev1.ContainerImage {
	var out []corev1.ContainerImage
	for i := range images {
		img := &images[i]
		digests, tags := slices.Sorted(slices.Values(img.RepoDigests)), slices.Sorted(slices.Values(img.RepoTags))
		names := append(digests, tags...)
		if len(names) == 0 {
			continue
		}
		out = append(out, corev1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: int64(min(img.Size, 1<<62))}) //nolint:gosec // bounded
	}
	slices.SortFunc(out, func(a, b corev1.ContainerImage) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), cmp.Compare(a.Names[0], b.Names[0]))
	})
	return out[:min(len(out), maxNodeImages)]
}

// pageCapacity is what the kernel has set aside for huge pages, by resource name.
func pageCapacity(sys string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, p := range hugePages(sys) {
		out[hugepagesPrefix+binaryKiB(p.size>>10)] = corev1.Quantity(binaryKiB(p.total >> 10))
	}
	return out
}

// binaryKiB writes an amount of KiB with the largest suffix that loses nothing.
func binaryKiB(kib int64) string {
	units := []string{"Ki", "Mi", "Gi", "Ti"}
	i := 0
	for i < len(units)-1 && kib != 0 && kib%1024 == 0 {
		kib, i = kib/1024, i+1
	}
	if kib == 0 {
		return "0"
	}
	return strconv.FormatInt(kib, 10) + units[i]
}

// runtimeHandlers tells what the runtime's handlers can do, where it says so.
func runtimeHandlers(resp *cri.StatusResponse) (handlers []corev1.RuntimeHandler, features *corev1.NodeFeatures) {
	if resp == nil {
		return nil, nil
	}
	for i := range resp.RuntimeHandlers {
		h := corev1.RuntimeHandler{Name: resp.RuntimeHandlers[i].Name}
		if f := resp.RuntimeHandlers[i].Features; f != nil {
			recursive, users := f.RecursiveReadOnlyMounts, f.UserNamespaces
			h.Features = &corev1.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: &recursive, UserNamespaces: &users}
		}
		handlers = append(handlers, h)
	}
	slices.SortFunc(handlers, func(a, b corev1.RuntimeHandler) int { return cmp.Compare(a.Name, b.Name) })
	if f := resp.Features; f != nil {
		groups := f.SupplementalGroupsPolicy
		features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &groups}
	}
	return handlers, features
}
