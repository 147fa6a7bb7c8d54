package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
)

const (
	claimKey  = wire.Key("persistentvolumeclaims/default/data")
	volumeKey = wire.Key("persistentvolumes//disk")
)

func boundClaim(volume string) string {
	return fmt.Sprintf(`{"metadata":{"name":"data","uid":"claim-1"},"spec":{"volumeName":%q,"accessModes":["ReadWriteOnce"]},"status":{"phase":"Bound"}}`, volume)
}

func localVolume(path, more string) string {
	return fmt.Sprintf(`{"metadata":{"name":"disk"},"spec":{"claimRef":{"namespace":"default","name":"data","uid":"claim-1"},"local":{"path":%q}%s}}`, path, more)
}

func claimingPod(t *testing.T, security string) *desiredPod {
	return decode(t, `{"securityContext":{`+security+`},"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"data","mountPath":"/data"}]}],
		"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}`)
}

// TestClaimsAreWaitedFor: each thing that is missing has the kubelet's words, until the volume is there.
func TestClaimsAreWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	d := claimingPod(t, "")
	if d.refused != "" || !d.refs {
		t.Fatalf("refused %q, refs %v", d.refused, d.refs)
	}
	v, _ := testVolumes(t, d)
	desired := &fakeDesired{objects: map[wire.Key]wire.Object{}}
	v.refs = references{desired: desired, namespace: "default"}
	node := func(name string) string {
		return `,"nodeAffinity":{"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"kubernetes.io/hostname","operator":"In","values":["` + name + `"]}]}]}}`
	}
	claim, volume := func(doc string) wire.Object { return objectOf(t, claimKey, doc) }, func(doc string) wire.Object { return objectOf(t, volumeKey, doc) }
	for _, step := range []struct {
		put  wire.Object
		want string
	}{
		{absentObject("configmaps/default/x"), `volume "data": error processing PVC default/data: the claim has not arrived at this node yet`},
		{absentObject(claimKey), `persistentvolumeclaims "data" not found as of revision 7`},
		{claim(`{"metadata":{"name":"data","uid":"claim-1"},"spec":{},"status":{"phase":"Pending"}}`), "error processing PVC default/data: PVC is not bound"},
		{claim(`{"metadata":{"name":"data","uid":"claim-1"},"spec":{"volumeName":"disk"},"status":{"phase":"Lost"}}`), "PVC is not bound"},
		{claim(`{"metadata":{"name":"data","uid":"claim-1","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"volumeName":"disk"},"status":{"phase":"Bound"}}`), "PVC is being deleted"},
		{claim(`{"metadata":{"name":"data","uid":"claim-1"},"spec":{"volumeName":"disk","volumeMode":"Block"},"status":{"phase":"Bound"}}`), "volumeMode Block"},
		{claim(boundClaim("disk")), `persistentvolume "disk" has not arrived`},
		{absentObject(volumeKey), `persistentvolume "disk" not found`},
		{volume(`{"spec":{"local":{"path":"/x"}}}`), "nil pv.Spec.ClaimRef"},
		{volume(`{"spec":{"claimRef":{"uid":"claim-0"},"local":{"path":"/x"}}}`), `ClaimRef.UID "claim-0" that does not match the expected claim UID "claim-1"`},
		{volume(`{"spec":{"claimRef":{"uid":"claim-1"},"volumeMode":"Block","local":{"path":"/x"}}}`), "volumeMode Block"},
		{volume(`{"spec":{"claimRef":{"uid":"claim-1"},"nfs":{"server":"x","path":"/"}}}`), "volumes of its kind are not supported"},
		{volume(`{"spec":{"claimRef":{"uid":"claim-1"},"csi":{"driver":"disk.example.org","volumeHandle":"h"}}}`), "driver name disk.example.org not found in the list of registered CSI drivers"},
		{volume(localVolume(dir, node("gw-2"))), `MountVolume.NodeAffinity check failed for volume "disk": no matching NodeSelectorTerms`},
		{volume(localVolume(dir, node("gw-1"))), "does not exist: make it on this gateway"},
	} {
		desired.put(step.put)
		if _, err := v.prepare(&d.pod.Spec); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("after %s %s: %v, want %q", step.put.Key, step.put.Body, err, step.want)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if paths, err := v.prepare(&d.pod.Spec); err != nil || paths["data"] != dir {
		t.Fatalf("%v, %v", paths, err)
	}
	// From now on the pod has it, whatever becomes of the claim.
	desired.put(absentObject(claimKey))
	desired.put(absentObject(volumeKey))
	if paths, err := v.prepare(&d.pod.Spec); err != nil || paths["data"] != dir {
		t.Errorf("when the claim is gone: %v, %v", paths, err)
	}
	if err := removePodDir(v.dir, v.mount); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the volume went with the pod: %v", err)
	}
}

// TestClaimsOwnership: fsGroup owns a local volume, is not applied to what is read only, and OnRootMismatch looks at the root alone.
func TestClaimsOwnership(t *testing.T) {
	group := os.Getgid() // what anybody may give away
	for name, c := range map[string]struct {
		security, volume string
		changed          bool
	}{
		"always":           {fmt.Sprintf(`"fsGroup":%d`, group), "", true},
		"on root mismatch": {fmt.Sprintf(`"fsGroup":%d,"fsGroupChangePolicy":"OnRootMismatch"`, group), "", false},
		"none":             {"", "", false},
		"read only":        {fmt.Sprintf(`"fsGroup":%d`, group), `,"readOnly":true`, false},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o770|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		d := decode(t, `{"securityContext":{`+c.security+`},"containers":[{"name":"c","image":"a","volumeMounts":[{"name":"data","mountPath":"/data"}]}],"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"`+c.volume+`}}]}`)
		v, _ := testVolumes(t, d)
		desired := &fakeDesired{objects: map[wire.Key]wire.Object{}}
		desired.put(objectOf(t, claimKey, boundClaim("disk")))
		desired.put(objectOf(t, volumeKey, localVolume(dir, "")))
		v.refs = references{desired: desired, namespace: "default"}
		paths, err := v.prepare(&d.pod.Spec)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm() == 0o660; got != c.changed || int(info.Sys().(*syscall.Stat_t).Gid) != group {
			t.Errorf("%s: the file has mode %v", name, info.Mode())
		}
		m, err := (&launch{pod: &d.pod, container: &d.pod.Spec.Containers[0], volumes: paths}).mounts()
		if err != nil || len(m) != 1 || m[0].Readonly != (c.volume != "") || m[0].HostPath != dir {
			t.Errorf("%s: mounts %+v", name, m)
		}
	}
}

// TestEphemeralClaims: a claim of the right name that somebody else made is not used.
func TestEphemeralClaims(t *testing.T) {
	d := decode(t, `{"containers":[{"name":"c","image":"app:1"}],"volumes":[{"name":"tmp","ephemeral":{"volumeClaimTemplate":{"spec":{"resources":{"requests":{"storage":"1Gi"}},"accessModes":["ReadWriteOnce"]}}}}]}`)
	if d.refused != "" || !d.refs {
		t.Fatalf("refused %q, refs %v", d.refused, d.refs)
	}
	v, _ := testVolumes(t, d)
	desired := &fakeDesired{objects: map[wire.Key]wire.Object{}}
	v.refs = references{desired: desired, namespace: "default"}
	dir, key := t.TempDir(), wire.Key("persistentvolumeclaims/default/"+d.pod.Metadata.Name+"-tmp")
	desired.put(objectOf(t, volumeKey, localVolume(dir, "")))
	desired.put(objectOf(t, key, boundClaim("disk")))
	if _, err := v.prepare(&d.pod.Spec); err == nil || !strings.Contains(err.Error(), "(pod is not owner)") {
		t.Errorf("a claim of somebody else: %v", err)
	}
	desired.put(objectOf(t, key, strings.Replace(boundClaim("disk"), `"uid"`, `"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"web","uid":"`+d.pod.Metadata.UID+`","controller":true}],"uid"`, 1)))
	if paths, err := v.prepare(&d.pod.Spec); err != nil || paths["tmp"] != dir {
		t.Errorf("%v, %v", paths, err)
	}
}

// TestPodWaitsForClaimAndClass: the pod shows what it waits for, and starts as soon as it has come.
func TestPodWaitsForClaimAndClass(t *testing.T) {
	dir := t.TempDir()
	simulate(t, func(w *world) {
		w.desired.put(objectOf(t, claimKey, `{"metadata":{"name":"data","uid":"claim-1"},"spec":{},"status":{"phase":"Pending"}}`))
		w.desired.put(absentObject("runtimeclasses//kata"))
		w.desired.put(objectOf(t, volumeKey, localVolume(dir, "")))
		w.desired.put(objectOf(t, "services/default/web", `{"spec":{"clusterIP":"10.96.0.7","ports":[{"port":80}]}}`))
		w.apply(`{"metadata":{},"spec":{"runtimeClassName":"kata","overhead":{"memory":"64Mi"},"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"data","mountPath":"/data"}]}],"volumes":[{"name":"data","persistentVolumeClaim":{"claimName":"data"}}]}}`)
		w.settle(2 * time.Second)
		waits := func(want string) {
			t.Helper()
			if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != "ContainerCreating" || !strings.Contains(got.Message, want) {
				t.Errorf("waiting %+v, want %q", got, want)
			}
		}
		waits("PVC is not bound")
		if e := w.event("FailedMount"); e == nil {
			t.Errorf("events %v", w.events)
		}
		w.desired.put(objectOf(t, claimKey, boundClaim("disk")))
		w.settle(2 * time.Second)
		waits(`RuntimeClass "kata" not found`)
		w.desired.put(objectOf(t, "runtimeclasses//kata", `{"metadata":{"name":"kata"},"handler":"kata-qemu"}`))
		w.settle(3 * time.Second)
		if s := w.status(); s.Phase != phaseRunning {
			t.Fatalf("status %+v", s)
		}
		w.rt.mu.Lock()
		defer w.rt.mu.Unlock()
		for _, b := range w.rt.boxes {
			if b.handler != "kata-qemu" || b.config.Linux.Overhead == nil || b.config.Linux.Overhead.MemoryLimitInBytes != 64<<20 {
				t.Errorf("sandbox of handler %q, overhead %+v", b.handler, b.config.Linux.Overhead)
			}
		}
		for _, c := range w.rt.containers {
			found := map[string]string{}
			for _, e := range c.config.Envs {
				found[e.Key] = e.Value
			}
			if len(c.config.Mounts) == 0 || c.config.Mounts[0].HostPath != dir || found["WEB_SERVICE_HOST"] != "10.96.0.7" {
				t.Errorf("mounts %+v, variables %v", c.config.Mounts, found)
			}
		}
	})
}
