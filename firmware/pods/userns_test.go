package pods

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/userids"
	"github.com/skerry/skerry/firmware/wire"
)

// ownUsersPod is a pod with a user namespace of its own, all kinds of mounts in it.
func ownUsersPod(n int) (wire.Key, string) {
	return wire.Key(fmt.Sprintf("pods/default/web%d/u%d", n, n)), fmt.Sprintf(`{"metadata":{"name":"web%d","namespace":"default","uid":"u%d"},"spec":{"hostUsers":false,
	"volumes":[{"name":"v"},{"name":"h","hostPath":{"path":"/data"}}],
	"initContainers":[{"name":"side","image":"app:1","restartPolicy":"Always"}],
	"containers":[{"name":"c","image":"app:1","securityContext":{"procMount":"Unmasked"},"volumeMounts":[{"name":"v","mountPath":"/v"},{"name":"v","mountPath":"/s","subPath":"s"},{"name":"h","mountPath":"/h"}]}]}}`, n, n)
}

// canMapUsers lets the fake runtime have user namespaces.
func (f *fakeRuntime) canMapUsers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers = []cri.RuntimeHandler{{Features: &cri.RuntimeHandlerFeatures{UserNamespaces: true}}}
}

// usersOfBoxes returns the first ids of the ready sandboxes, by pod UID.
func (f *fakeRuntime) usersOfBoxes() map[string]uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]uint32{}
	for _, b := range f.boxes {
		if u := b.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions; u != nil && b.ready {
			out[b.config.Metadata.UID] = u.UIDs[0].HostID
		}
	}
	return out
}

// userWorld is a world whose runtime has user namespaces, with n pods that want one.
func userWorld(t *testing.T, n int, test func(w *world)) {
	t.Helper()
	simulate(t, func(w *world) {
		w.rt.canMapUsers()
		w.stop()
		w.o.Etc = w.o.Dir // no such files
		w.start()
		for i := range n {
			w.put(ownUsersPod(i + 1))
		}
		w.settle(10 * time.Second)
		if got := w.rt.usersOfBoxes(); len(got) != n {
			t.Fatalf("%d of %d pods run: %v\n%s", len(got), n, got, w.logText())
		}
		test(w)
	})
}

// TestUserNamespaceReachesTheRuntime: sandbox, containers and all their mounts have the same mapping.
func TestUserNamespaceReachesTheRuntime(t *testing.T) {
	userWorld(t, 1, func(w *world) {
		ids := []cri.IDMapping{{HostID: userids.Block, Length: userids.Block}}
		same := func(u *cri.UserNamespace) bool {
			return u != nil && u.Mode == cri.NamespacePod && slices.Equal(u.UIDs, ids) && slices.Equal(u.GIDs, ids)
		}
		for _, b := range w.rt.boxes {
			if !same(b.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions) {
				t.Errorf("sandbox %+v", b.config.Linux.SecurityContext.NamespaceOptions)
			}
		}
		if len(w.rt.containers) != 2 {
			t.Fatalf("%d containers", len(w.rt.containers))
		}
		for _, c := range w.rt.containers {
			if sc := c.config.Linux.SecurityContext; !same(sc.NamespaceOptions.UsernsOptions) || (c.config.Metadata.Name == "c") != (len(sc.MaskedPaths)+len(sc.ReadonlyPaths) == 0) {
				t.Errorf("%s: %+v, masked %q", c.config.Metadata.Name, sc.NamespaceOptions, sc.MaskedPaths)
			}
			if n := len(c.config.Mounts); c.config.Metadata.Name == "c" && n != 5 { // three volumes, /etc/hosts, the termination message
				t.Errorf("%d mounts", n)
			}
			for _, m := range c.config.Mounts {
				if !slices.Equal(m.UIDMappings, ids) || !slices.Equal(m.GIDMappings, ids) {
					t.Errorf("%s: mount %s is mapped %v %v", c.config.Metadata.Name, m.ContainerPath, m.UIDMappings, m.GIDMappings)
				}
			}
		}
	})
}

// TestUserNamespacesAreKept: pods have blocks of their own and keep them across restarts of the agent, even if the files are lost or
// damaged, as long as their sandboxes tell; a block is free again when its pod is gone.
func TestUserNamespacesAreKept(t *testing.T) {
	userWorld(t, 4, func(w *world) {
		before := w.rt.usersOfBoxes()
		taken := map[uint32]bool{}
		for _, first := range before {
			taken[first] = true
		}
		if len(taken) != 4 {
			t.Fatalf("blocks are shared: %v", before)
		}
		w.stop()
		if err := os.Remove(filepath.Join(w.o.Dir, "u2", idsFile)); err != nil {
			t.Fatal(err)
		}
		for uid, text := range map[string]string{"u3": "65536", "u4": fmt.Sprintf("%d 65536\n", before["u1"])} {
			if err := os.WriteFile(filepath.Join(w.o.Dir, uid, idsFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.settle(5 * time.Second)
		w.rt.mu.Lock()
		for _, c := range w.rt.containers { // all start again, in the sandboxes that they have
			c.ends = time.Now()
		}
		w.rt.mu.Unlock()
		w.settle(time.Minute)
		w.put(ownUsersPod(5))
		w.settle(10 * time.Second)
		after := w.rt.usersOfBoxes()
		for uid, first := range before {
			if after[uid] != first {
				t.Errorf("%s had %d, has %d", uid, first, after[uid])
			}
		}
		if taken[after["u5"]] || after["u5"] == 0 {
			t.Errorf("the fifth pod got %d of %v", after["u5"], before)
		}
		w.rt.mu.Lock()
		for _, c := range w.rt.containers {
			uid := c.config.Labels[labelPodUID]
			if u := c.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions; u == nil || u.UIDs[0].HostID != after[uid] {
				t.Errorf("container of %s: %+v, its sandbox has %d", uid, u, after[uid])
			}
		}
		w.rt.mu.Unlock()

		key, _ := ownUsersPod(2)
		w.desired.remove(key)
		w.settle(time.Minute)
		w.put(ownUsersPod(6))
		w.settle(10 * time.Second)
		if now := w.rt.usersOfBoxes(); now["u6"] != before["u2"] {
			t.Errorf("the block %d of the pod that is gone is not given again: %v", before["u2"], now)
		}
	})
}

// TestUserIDsRunOut: with as many blocks as the configuration gives, the next pod waits and says for what.
func TestUserIDsRunOut(t *testing.T) {
	simulate(t, func(w *world) {
		w.rt.canMapUsers()
		w.stop()
		w.o.UserIDs = userids.Range{First: 20 * userids.Block, Count: 2 * userids.Block}
		w.start()
		for n := 2; n < 4; n++ {
			w.put(ownUsersPod(n))
		}
		w.settle(5 * time.Second)
		key, doc := ownUsersPod(1)
		w.put(key, doc)
		w.settle(5 * time.Second)
		r := w.report(key)
		if e := w.lastEvent("FailedCreatePodSandBox"); e == nil || !strings.Contains(e.message, "pods.userNamespaces") || r.Status.Phase != phasePending || len(w.rt.usersOfBoxes()) != 2 {
			t.Errorf("%+v, event %+v", r.Status, e)
		}
		other, _ := ownUsersPod(3)
		w.desired.remove(other)
		w.settle(2 * time.Minute)
		if got := w.rt.usersOfBoxes(); got["u1"]/userids.Block != 20 && got["u1"]/userids.Block != 21 {
			t.Errorf("after a pod has left: %v\n%s", got, w.logText())
		}
	})
}

// TestUserNamespaceRefused: a runtime that cannot is told apart from one that does not answer, and one that has learned it is asked again.
func TestUserNamespaceRefused(t *testing.T) {
	simulate(t, func(w *world) {
		key, doc := ownUsersPod(1)
		w.put(key, doc)
		w.settle(5 * time.Second)
		r := w.report(key)
		if r.Status.Phase != phasePending || r.Status.Reason != reasonUnsupported || w.event(reasonUnsupported) == nil || w.rt.boxCount() != 0 ||
			!strings.Contains(r.Status.Message, "spec.hostUsers: the container runtime fake 1.0 cannot") || !strings.Contains(r.Status.Message, "runc 1.2") {
			t.Errorf("%+v", r.Status)
		}
		w.rt.mu.Lock()
		w.rt.down = errFakeDown
		w.rt.mu.Unlock()
		w.settle(10 * time.Second)
		w.rt.canMapUsers()
		w.rt.mu.Lock()
		w.rt.down = nil
		w.rt.mu.Unlock()
		w.settle(20 * time.Second)
		if r := w.report(key); r.Status.Phase != phaseRunning || r.Status.Reason != "" {
			t.Errorf("after the upgrade: %+v", r.Status)
		}
	})
}

// TestOthersKeepTheirIDs: what the runtime runs for others is not given to our pods, whatever the size and the place of its range.
func TestOthersKeepTheirIDs(t *testing.T) {
	rt := newFakeRuntime()
	for i, r := range []cri.IDMapping{{HostID: 100000, Length: 65536}, {HostID: 5 * userids.Block, Length: 2 * userids.Block}, {HostID: 4294901760, Length: 65536}} {
		_, err := rt.RunPodSandbox(context.Background(), &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{UID: fmt.Sprint(i)}, Linux: &cri.LinuxPodSandboxConfig{
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{UIDs: []cri.IDMapping{r}, GIDs: []cri.IDMapping{r}}}},
		}}, "")
		if err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Dir: t.TempDir(), Etc: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	k := newIDKeeper(&o)
	for i, want := range []uint32{3, 4, 7, 8} { // 100000 lies in the blocks 1 and 2
		if first, err := k.give(t.Context(), fmt.Sprint("u", i), rt); err != nil || first != want*userids.Block {
			t.Errorf("pod %d: block %d, want %d (%v)", i, first/userids.Block, want, err)
		}
	}
	if rt.calls["ListPodSandbox"] != 1 {
		t.Errorf("the runtime was asked %d times", rt.calls["ListPodSandbox"])
	}
	rt.down = errFakeDown
	if _, err := newIDKeeper(&o).give(t.Context(), "new", rt); !runtimeGone(err) {
		t.Errorf("without an answer of the runtime a block was given: %v", err)
	}
	if first, err := newIDKeeper(&o).give(t.Context(), "u2", rt); err != nil || first != 7*userids.Block {
		t.Errorf("what was kept: %d %v", first, err)
	}
}

// hungSandboxes is a runtime that answers no list before it is told to.
type hungSandboxes struct {
	SandboxRuntime
	asked, answer chan struct{}
}

func (h *hungSandboxes) ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]cri.PodSandbox, error) {
	close(h.asked)
	<-h.answer
	return h.SandboxRuntime.ListPodSandbox(ctx, filter)
}

// TestUserIDsWhileTheRuntimeHangs: a new pod waits for its answer; one that has its ids does not, nor one that is gone.
func TestUserIDsWhileTheRuntimeHangs(t *testing.T) {
	o := Options{Dir: t.TempDir(), Etc: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	if _, err := newIDKeeper(&o).give(t.Context(), "old", newFakeRuntime()); err != nil {
		t.Fatal(err)
	}
	k := newIDKeeper(&o)
	rt := &hungSandboxes{newFakeRuntime(), make(chan struct{}), make(chan struct{})}
	given := make(chan error, 1)
	go func() {
		_, err := k.give(t.Context(), "new", rt)
		given <- err
	}()
	<-rt.asked
	if first, err := k.give(t.Context(), "old", rt); err != nil || first != userids.Block {
		t.Errorf("a pod that has its ids: %d, %v", first, err)
	}
	k.release("old")
	close(rt.answer)
	if err := <-given; err != nil {
		t.Error(err)
	}
}

// FuzzReadIDs: whatever is in the file, what is read of it is a block.
func FuzzReadIDs(f *testing.F) {
	f.Add([]byte("65536 65536\n"))
	f.Add([]byte("1 65536"))
	f.Add([]byte("-65536 65536\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), idsFile)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if first, err := readIDs(path); err == nil && (first == 0 || first%userids.Block != 0) {
			t.Errorf("%q is block %d", text, first)
		}
	})
}
