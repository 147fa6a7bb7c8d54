package pods

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// imagePatience is how long one look at the images may take: the removal of a large one takes its time on flash.
const imagePatience = 5 * time.Minute

// imagesFile is where the images that this agent has pulled are listed, below Options.Dir.
const imagesFile = "images.json"

// imagesSettle is for how long a pull may be missing from that list on the disk: many come together, and flash is a wear part. Whoever cuts the power
// meanwhile has an image more on the disk that is not removed when it fills up.
const imagesSettle = 10 * time.Second

// maxPulled bounds that list: the longest unused are forgotten first, and stay on the disk.
const maxPulled = 1000

// pulledImage is an image that this agent has fetched.
type pulledImage struct {
	Ref  string `json:"ref"`  // as a pod named it, for people
	Used int64  `json:"used"` // the look at which it was in use last; looks are counted, because clocks jump

	// Static says that it was pulled for a static pod, and never used by any other: the folder of static pods tells all who may want it.
	Static bool `json:"static,omitempty"`
}

// imageKeeper removes images when the disk fills up, the longest unused first. Only images that this agent has pulled are ever removed:
// one that was flashed or imported may be impossible to get again. Nor is one that a container of anybody uses, that a pod
// of the desired view names, or that the runtime has pinned. While the view is not whole, on a gateway that has never met a relay, for one,
// images that only static pods have used may go, if all their files can be read.
type imageKeeper struct {
	rt        ImageRuntime
	access    *imageAccess
	list      func(ctx context.Context, filter *cri.ContainerFilter) ([]cri.Container, error)
	wanted    func() []string // images that desired pods name
	known     func() knowledge
	usage     func(path string) (total, free int64, err error)
	high, low int64 // percent of the disk: begin above high, end at low
	path      string
	log       *slog.Logger
	pulls     chan struct{} // something was pulled that the list on the disk does not have

	mu     sync.Mutex
	pulled map[string]*pulledImage // by id
	look   int64
	dirty  bool // what is in memory is not what is on the disk
	short  bool // it was said that the disk stays full
}

// knowledge is whose wishes are known.
type knowledge struct {
	all     bool // those of all pods: the desired view is whole
	statics bool // those of all static pods: their files can be read
}

// enough reports whether an image that nobody is known to want may go.
func (n knowledge) enough(p *pulledImage) bool { return n.all || n.statics && p.Static }

// load reads the list of the run before. Without it, no image is removed that was pulled before.
func (k *imageKeeper) load() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pulled = map[string]*pulledImage{}
	b, err := os.ReadFile(k.path)
	if err == nil {
		err = json.Unmarshal(b, &k.pulled)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		k.pulled = map[string]*pulledImage{}
		k.log.Warn("the list of pulled images cannot be read: images that were pulled before now are not removed when the disk fills up; remove them with crictl rmi", "path", k.path, "error", err)
	}
	for id, p := range k.pulled {
		if p == nil {
			delete(k.pulled, id)
			continue
		}
		k.look = max(k.look, p.Used)
	}
}

// note lists an image that was pulled just now; static: for a static pod. One that was listed so already, since a container pulls it with each start, is
// only in use now: mark sees to that.
func (k *imageKeeper) note(id, ref string, static bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.pulled[id]; old != nil {
		static = static && old.Static
		if old.Ref == ref && old.Static == static {
			k.dirty = k.dirty || old.Used < k.look // it was out of use
			old.Used = k.look + 1
			return
		}
	}
	k.pulled[id] = &pulledImage{Ref: ref, Used: k.look + 1, Static: static}
	for len(k.pulled) > maxPulled {
		oldest := id
		for other, p := range k.pulled {
			if p.Used < k.pulled[oldest].Used {
				oldest = other
			}
		}
		delete(k.pulled, oldest)
	}
	k.dirty = true
	select {
	case k.pulls <- struct{}{}:
	default:
	}
}

// flush writes the list if the disk has another.
func (k *imageKeeper) flush() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dirty {
		k.save()
	}
}

// share notes that a pod uses an image which is no static one.
func (k *imageKeeper) share(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.pulled[id]; p != nil && p.Static {
		p.Static = false
		k.save()
	}
}

// save writes the list. k.mu is held.
func (k *imageKeeper) save() {
	b, err := json.Marshal(k.pulled)
	if err == nil {
		err = replaceFile(k.path, b, 0o600)
	}
	if err != nil {
		k.log.Warn("the list of pulled images cannot be written: after a restart, images pulled since are not removed when the disk fills up", "path", k.path, "error", err)
	}
	k.dirty = err != nil
}

// pass looks at images and disk once, and removes what has to go.
func (k *imageKeeper) pass(ctx context.Context) error {
	images, err := k.rt.ListImages(ctx, nil)
	if err != nil {
		return err
	}
	used, err := k.inUse(ctx, images)
	if err != nil {
		return err
	}
	k.mark(images, used)
	k.prune(ctx, images)
	fs, err := k.rt.ImageFsInfo(ctx)
	if err != nil {
		return err
	}
	if len(fs.ImageFilesystems) == 0 || fs.ImageFilesystems[0].FsID == nil || fs.ImageFilesystems[0].FsID.Mountpoint == "" {
		return nil // the runtime does not say where its images are
	}
	mount := fs.ImageFilesystems[0].FsID.Mountpoint
	total, free, err := k.usage(mount)
	if err != nil || total <= 0 {
		return err
	}
	if percent := 100 * float64(total-free) / float64(total); percent < float64(k.high) {
		k.short = false
		return nil
	}
	return k.collect(ctx, images, used, mount, total*(100-k.low)/100)
}

// inUse returns the ids of images that must stay.
func (k *imageKeeper) inUse(ctx context.Context, images []cri.Image) (map[string]bool, error) {
	named, err := k.wantedIDs(ctx) // before the containers: a pod that starts in between has one or is still wanted
	if err != nil {
		return nil, err
	}
	imported, err := importedImages(filepath.Dir(k.path))
	if err != nil {
		return nil, err
	}
	for id := range imported {
		named[id] = true
	}
	containers, err := k.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range containers {
		c := &containers[i]
		named[c.ImageRef], named[c.ImageID] = true, true
		if c.Image != nil {
			named[c.Image.Image] = true
		}
	}
	used := map[string]bool{}
	for i := range images {
		img := &images[i]
		isNamed := func(name string) bool { return named[name] }
		used[img.ID] = img.Pinned || named[img.ID] || slices.ContainsFunc(img.RepoTags, isNamed) || slices.ContainsFunc(img.RepoDigests, isNamed)
	}
	return used, nil
}

// mark notes which pulled images are in use, and forgets those that somebody else has removed. The list is written when
// that changes which ones are used, not at each look: flash is a wear part.
func (k *imageKeeper) mark(images []cri.Image, used map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	there := map[string]bool{}
	for i := range images {
		there[images[i].ID] = true
	}
	before := k.look
	k.look++
	for id, p := range k.pulled {
		switch {
		case !there[id] && p.Used <= before: // one that was pulled since the list was made stays
			delete(k.pulled, id)
			k.dirty = true
		case used[id]:
			k.dirty = k.dirty || p.Used < before
			p.Used = k.look
		case p.Used == before:
			k.dirty = true
		}
	}
	if k.dirty {
		k.save()
	}
}

// prune has what is known of images that are gone forgotten.
func (k *imageKeeper) prune(ctx context.Context, images []cri.Image) {
	ids, names := map[string]bool{}, map[string]bool{}
	for i := range images {
		ids[images[i].ID] = true
		for _, name := range slices.Concat(images[i].RepoTags, images[i].RepoDigests) {
			full, _ := fullName(name)
			names[full] = true
		}
	}
	k.access.prune(ctx, ids, func(name string) bool { return names[name] })
}

// collect removes pulled images without use, the longest unused first, until there are goal bytes free.
func (k *imageKeeper) collect(ctx context.Context, images []cri.Image, used map[string]bool, mount string, goal int64) error {
	known := k.known()
	k.mu.Lock()
	type candidate struct {
		image *cri.Image
		pulledImage
	}
	var out []candidate
	for i := range images {
		if p := k.pulled[images[i].ID]; p != nil && !used[images[i].ID] && p.Used < k.look && known.enough(p) {
			out = append(out, candidate{&images[i], *p})
		}
	}
	k.mu.Unlock()
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Used, b.Used), cmp.Compare(a.image.ID, b.image.ID))
	})
	var errs []error
	for _, c := range out {
		_, free, err := k.usage(mount)
		if err != nil {
			return err
		}
		if free >= goal {
			break
		}
		wanted, err := k.wantedIDs(ctx)
		if err != nil {
			k.flush()
			return errors.Join(append(errs, err)...) // what cannot be known to be unwanted stays
		}
		if wanted[c.image.ID] || !k.known().enough(&c.pulledImage) { // a pod came that wants it, or the view is not whole any more
			continue
		}
		if err := k.rt.RemoveImage(ctx, &cri.ImageSpec{Image: c.image.ID}); err != nil {
			errs = append(errs, fmt.Errorf("remove image %s (%s): %w", c.Ref, c.image.ID, err))
			continue
		}
		k.log.Info("removed an image that no pod uses, because the disk is nearly full", "image", c.Ref, "id", c.image.ID, "bytes", c.image.Size, "disk", mount)
		k.mu.Lock()
		delete(k.pulled, c.image.ID)
		k.dirty = true
		k.mu.Unlock()
	}
	k.flush()
	if _, free, err := k.usage(mount); err == nil && free < goal && !k.short {
		k.short = true
		k.log.Warn("the disk stays nearly full: every image that is left is in use, was not pulled by this agent, or may be wanted by pods of which it has not heard yet; "+
			"remove data of pods, logs, or images with crictl rmi",
			"disk", mount, "free_bytes", free, "wanted_bytes", goal)
	}
	return errors.Join(errs...)
}

// wantedIDs returns the ids of images that desired pods name now.
func (k *imageKeeper) wantedIDs(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	for _, ref := range k.wanted() {
		have, err := k.rt.ImageStatus(ctx, &cri.ImageSpec{Image: ref, UserSpecifiedImage: ref}, false)
		if err != nil {
			return nil, err
		}
		if have.Image != nil {
			ids[have.Image.ID] = true
		}
	}
	return ids, nil
}

// newImageKeeper returns the manager's keeper. Its list is read.
func newImageKeeper(m *Manager) *imageKeeper {
	k := &imageKeeper{
		rt: m.o.Runtime, access: m.access, list: m.o.Runtime.ListContainers, wanted: m.wantedImages, known: m.knowledge, usage: m.o.DiskUsage,
		high: int64(m.o.ImageHigh), low: int64(m.o.ImageLow), path: filepath.Join(m.o.Dir, imagesFile), log: m.o.Log,
		pulls: make(chan struct{}, 1),
	}
	k.load()
	return k
}

// knowledge tells whose wishes are known.
func (m *Manager) knowledge() knowledge {
	return knowledge{all: m.o.Complete(), statics: m.o.StaticDir != "" && m.statics.usable()}
}

// wantedImages lists the images that desired pods name, and those that are fetched ahead.
func (m *Manager) wantedImages() []string {
	refs := slices.Clone(m.o.PrePull)
	for _, spec := range m.statics.specs() { // their workers may not have heard of them yet
		refs = append(refs, imagesOf(spec)...)
	}
	m.mu.Lock()
	for _, w := range m.workers {
		if d := w.shared.desired; d != nil {
			refs = append(refs, imagesOf(&d.pod.Spec)...)
		}
	}
	m.mu.Unlock()
	slices.Sort(refs)
	return slices.Compact(refs)
}

// imagesOf lists the images that a pod names.
func imagesOf(s *corev1.PodSpec) (refs []string) {
	for _, c := range allContainers(s) {
		refs = append(refs, c.Image)
	}
	for i := range s.Volumes {
		if v := s.Volumes[i].Image; v != nil {
			refs = append(refs, v.Reference)
		}
	}
	return refs
}

// collectImages looks after the images until ctx ends.
func (m *Manager) collectImages(ctx context.Context) {
	defer m.images.flush()
	period := time.NewTicker(m.o.ImagePeriod)
	defer period.Stop()
	var settled <-chan time.Time // set while a pull waits for the list to be written
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.images.pulls:
			if settled == nil {
				settled = time.After(imagesSettle)
			}
			continue
		case <-settled:
			settled = nil
			m.images.flush()
			continue
		case <-period.C:
		}
		if m.runtimeUp() != nil {
			continue
		}
		pass, cancel := context.WithTimeout(ctx, imagePatience)
		if err := m.images.pass(pass); err != nil && ctx.Err() == nil {
			m.o.Log.Warn("images could not be looked after", "error", err, "again_in", m.o.ImagePeriod)
		}
		cancel()
	}
}
