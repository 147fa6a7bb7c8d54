package pods

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/userids"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// idsFile keeps, in a pod's folder, which ids of the machine its user namespace maps to: "FIRST COUNT".
const idsFile = "userns"

// ownUsers reports whether a pod wants a user namespace of its own.
func ownUsers(s *corev1.PodSpec) bool { return s.HostUsers != nil && !*s.HostUsers }

// idKeeper gives pods with a user namespace of their own a block of ids each, which they keep until they are gone: across restarts of the
// agent by a file in the pod's folder, and, if that is lost, by what the runtime says of the pod's sandbox. Two pods never have the same block.
// It may be called by many goroutines; a first call for a pod asks the runtime and writes to the disk.
type idKeeper struct {
	dir string // of the pods' folders
	etc string // where subuid and subgid are
	own userids.Range

	giving sync.Mutex // held by whoever asks the runtime or writes: one at a time, before mu
	found  bool       // the runtime has told what its sandboxes have; guarded by giving

	mu    sync.Mutex        // held for moments only: a pod that is gone does not wait for a runtime that hangs
	of    map[string]uint32 // first id, by pod UID
	taken map[uint32]string // who has a block, by its first id
}

func newIDKeeper(o *Options) *idKeeper {
	k := &idKeeper{dir: o.Dir, etc: o.Etc, own: o.UserIDs, of: map[string]uint32{}, taken: map[uint32]string{}}
	files, err := filepath.Glob(filepath.Join(escapeGlob(o.Dir), "*", idsFile))
	if err != nil {
		o.Log.Warn("what user ids pods have cannot be looked up: the runtime will be asked", "error", err)
	}
	for _, path := range files {
		uid := filepath.Base(filepath.Dir(path))
		if first, err := readIDs(path); err != nil {
			o.Log.Warn("which user ids a pod has is lost: the runtime will be asked", "pod_uid", uid, "error", err)
		} else if !k.note(uid, first) {
			o.Log.Warn("two pods have kept the same user ids: the runtime will be asked about one of them", "pod_uid", uid, "other", k.taken[first], "first", first)
		}
	}
	return k
}

// note notes who has a block, unless somebody else has it. k.mu is held, or nobody else knows k.
func (k *idKeeper) note(uid string, first uint32) bool {
	if other, ok := k.taken[first]; ok && other != uid {
		return false
	}
	if old, ok := k.of[uid]; ok && old != first {
		return false
	}
	k.of[uid], k.taken[first] = first, uid
	return true
}

// give returns the first id of a pod's block. A pod that has none gets one, durably.
func (k *idKeeper) give(ctx context.Context, uid string, rt SandboxRuntime) (uint32, error) {
	if first, ok := k.has(uid); ok {
		return first, nil
	}
	k.giving.Lock()
	defer k.giving.Unlock()
	if !k.found {
		if err := k.ask(ctx, rt); err != nil {
			return 0, err
		}
		k.found = true
	}
	first, ok := k.has(uid)
	if !ok {
		var err error
		if first, err = k.free(); err != nil {
			return 0, err
		}
	}
	dir := filepath.Join(k.dir, uid)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return 0, fmt.Errorf("keep the pod's user ids: %w", err)
	}
	if err := durable.Replace(filepath.Join(dir, idsFile), fmt.Appendf(nil, "%d %d\n", first, userids.Block), 0o600); err != nil {
		return 0, fmt.Errorf("keep the pod's user ids: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note(uid, first)
	return first, nil
}

// has returns the block that a pod has.
func (k *idKeeper) has(uid string) (first uint32, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first, ok = k.of[uid]
	return first, ok
}

// free finds a block that nobody has.
func (k *idKeeper) free() (uint32, error) {
	space := userids.Space{Own: k.own}
	if k.own == (userids.Range{}) {
		var err error
		if space, err = userids.Default(k.etc); err != nil {
			return 0, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	first, ok := space.Free(func(first uint32) bool { _, taken := k.taken[first]; return taken })
	if !ok {
		return 0, fmt.Errorf("all user ids for pods are in use (%v, %d for each pod with hostUsers: false): give more by pods.userNamespaces, or delete such pods", space, userids.Block)
	}
	return first, nil
}

// ask notes what the runtime's sandboxes have, those of others included. k.giving is held.
func (k *idKeeper) ask(ctx context.Context, rt SandboxRuntime) error {
	boxes, err := rt.ListPodSandbox(ctx, &cri.PodSandboxFilter{})
	if err != nil {
		return err
	}
	for i := range boxes {
		uid := boxes[i].Labels[labelPodUID]
		if _, ok := k.has(uid); ok && uid != "" {
			continue
		}
		resp, err := rt.PodSandboxStatus(ctx, boxes[i].ID, false)
		if errors.Is(err, cri.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if users := usersOf(resp.Status); users != nil {
			k.noteSandbox(uid, boxes[i].ID, users)
		}
	}
	return nil
}

// noteSandbox notes what a sandbox has. Whatever the range is, the blocks that it touches are not free.
func (k *idKeeper) noteSandbox(uid, sandbox string, users *cri.UserNamespace) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range append(users.UIDs, users.GIDs...) {
		last := uint64(r.HostID) + uint64(max(r.Length, 1)) - 1
		for at := uint64(r.HostID) / userids.Block; at <= last/userids.Block && at <= 1<<16; at++ {
			first := uint32(at * userids.Block) //nolint:gosec // below 1<<32
			if _, ok := k.taken[first]; !ok && (uid == "" || !k.note(uid, first)) {
				k.taken[first] = "sandbox " + sandbox
			}
		}
	}
}

// usersOf returns the user namespace of a sandbox, nil if it is the machine's.
func usersOf(s *cri.PodSandboxStatus) *cri.UserNamespace {
	if s == nil || s.Linux == nil || s.Linux.Namespaces == nil || s.Linux.Namespaces.Options == nil {
		return nil
	}
	if u := s.Linux.Namespaces.Options.UsernsOptions; u != nil && u.Mode == cri.NamespacePod {
		return u
	}
	return nil
}

// release frees the block of a pod that is gone. Its file went with its folder.
func (k *idKeeper) release(uid string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if first, ok := k.of[uid]; ok {
		delete(k.taken, first)
		delete(k.of, uid)
	}
}

// readIDs reads an idsFile.
func readIDs(path string) (first uint32, err error) {
	text := readHead(path, 64)
	var r userids.Range
	if _, err := fmt.Sscanf(text, "%d %d\n", &r.First, &r.Count); err != nil || r.Check() != nil || r.Count != userids.Block {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		return 0, fmt.Errorf("%s does not hold the first and the number of a pod's ids", path)
	}
	return r.First, nil
}

// userNamespace returns the user namespace that a pod's sandbox and containers get; nil for the machine's own.
func (m *Manager) userNamespace(ctx context.Context, uid string, spec *corev1.PodSpec) (*cri.UserNamespace, error) {
	if !ownUsers(spec) {
		return nil, nil
	}
	first, err := m.ids.give(ctx, uid, m.o.Runtime)
	if err != nil {
		return nil, err
	}
	ids := []cri.IDMapping{{HostID: first, Length: userids.Block}}
	return &cri.UserNamespace{Mode: cri.NamespacePod, UIDs: ids, GIDs: ids}, nil
}

// mapMounts makes what is mounted belong to the same users inside of a user namespace as outside (idmapped mounts): whatever the block of ids
// is, files on the disk keep the owners that they have in the container.
func mapMounts(mounts []cri.Mount, users *cri.UserNamespace) {
	if users == nil {
		return
	}
	for i := range mounts {
		mounts[i].UIDMappings, mounts[i].GIDMappings = users.UIDs, users.GIDs
	}
}

// unable says why the runtime that is there cannot run a pod at all, with the field; "" if it can.
func (m *Manager) unable(spec *corev1.PodSpec) string {
	m.mu.Lock()
	rt := m.rt
	m.mu.Unlock()
	if why := noSignals(spec, &rt); why != "" || !ownUsers(spec) {
		return why
	}
	handler, err := runtimeHandler(m.o.Desired, spec)
	if err != nil || rt.can.userNamespaces[handler] {
		return "" // of a handler that cannot be found, who makes the sandbox says so
	}
	what := ""
	if handler != "" {
		what = fmt.Sprintf(", by its handler %q,", handler)
	}
	return fmt.Sprintf("spec.hostUsers: the container runtime %s %s%s cannot give pods user namespaces of their own: that takes containerd 2.0 or CRI-O 1.30, or newer, with runc 1.2 or crun 1.9, or newer; "+
		"upgrade them, or remove the field", rt.name, rt.version, what)
}

// judged returns the desired pod, refused if the runtime cannot run it and has not started anything of it yet.
func (w *worker) judged(d *desiredPod, obs *observation) *desiredPod {
	if d == nil || d.refused != "" || d.terminating() || obs.sandbox() != nil || terminalPhase(w.status) {
		return d
	}
	why := w.m.unable(&d.pod.Spec)
	if why == "" {
		return d
	}
	refused := *d
	refused.refused = why
	return &refused
}

// checkUsers refuses what goes with a user namespace of the pod's own, and what goes only with one. The API server does so, too; static pods
// have not passed it.
func checkUsers(s *corev1.PodSpec) (refused []string) {
	if ownUsers(s) {
		var with []string
		for _, f := range []struct {
			name string
			set  bool
		}{{"hostNetwork", s.HostNetwork}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}} {
			if f.set {
				with = append(with, "spec."+f.name)
			}
		}
		if len(with) > 0 {
			refused = append(refused, "spec.hostUsers: a pod with a user namespace of its own has no part in the gateway's other namespaces: remove "+strings.Join(with, ", "))
		}
		return refused
	}
	for _, c := range allContainers(s) {
		if sc := c.SecurityContext; sc != nil && sc.ProcMount == procUnmasked {
			refused = append(refused, fmt.Sprintf("container %q: securityContext.procMount: Unmasked needs a user namespace of the pod's own: set spec.hostUsers to false, or remove the field", c.Name))
		}
	}
	return refused
}

// procUnmasked shows a container all of /proc, as it is on the machine.
const procUnmasked = "Unmasked"
