package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// TestRecursiveReadOnly: the rules of https://kubernetes.io/docs/concepts/storage/volumes/#recursive-read-only-mounts.
func TestRecursiveReadOnly(t *testing.T) {
	for name, c := range map[string]struct {
		mount string
		can   bool
		want  bool
		err   string
	}{
		"not asked for":                {`"readOnly":true`, true, false, ""},
		"disabled":                     {`"readOnly":true,"recursiveReadOnly":"Disabled"`, true, false, ""},
		"if possible, and it is":       {`"readOnly":true,"recursiveReadOnly":"IfPossible"`, true, true, ""},
		"if possible, and it is not":   {`"readOnly":true,"recursiveReadOnly":"IfPossible"`, false, false, ""},
		"enabled":                      {`"readOnly":true,"recursiveReadOnly":"Enabled"`, true, true, ""},
		"enabled, without the runtime": {`"readOnly":true,"recursiveReadOnly":"Enabled"`, false, false, `volume "v" requested recursive read-only mode, but it is not supported by the runtime`},
		"not read-only":                {`"recursiveReadOnly":"Enabled"`, true, false, "but it is not read-only"},
		"with propagation":             {`"readOnly":true,"recursiveReadOnly":"IfPossible","mountPropagation":"HostToContainer"`, true, false, `not compatible with propagation "HostToContainer"`},
		"with none":                    {`"readOnly":true,"recursiveReadOnly":"Enabled","mountPropagation":"None"`, true, true, ""},
	} {
		d := decode(t, `{"containers":[{"name":"c","image":"a","volumeMounts":[{"name":"v","mountPath":"/v",`+c.mount+`}]}],"volumes":[{"name":"v","hostPath":{"path":"/h"}}]}`)
		if d.refused != "" {
			t.Fatal(d.refused)
		}
		l := &launch{pod: &d.pod, container: &d.pod.Spec.Containers[0], volumes: map[string]string{"v": "/h"}, handler: "runc", can: abilities{recursiveReadOnly: map[string]bool{"runc": c.can, "": !c.can}}}
		m, err := l.mounts()
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || m[0].RecursiveReadOnly != c.want:
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestAbilities(t *testing.T) {
	for version, images := range map[string]bool{"1.6.20": false, "1.6.20~ds1": false, "2.0.9": false, "2.1.0": true, "v2.1.0-rc.1": true, "2.2": true, "10.0.1": true, "unknown": false, "": false} {
		if a := abilitiesOf("containerd", version, nil); a.imageVolumes != images {
			t.Errorf("containerd %s: %+v", version, a)
		}
	}
	a := abilitiesOf("cri-o", "1.31.2", &cri.StatusResponse{RuntimeHandlers: []cri.RuntimeHandler{{Name: ""}, {Name: "runc", Features: &cri.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: true}}}})
	if !a.imageVolumes || a.recursiveReadOnly[""] || !a.recursiveReadOnly["runc"] || abilitiesOf("other", "9.9", nil).imageVolumes {
		t.Errorf("%+v", a)
	}
}

const imagePod = `{"metadata":{},"spec":{"containers":[{"name":"c","image":"app:1","volumeMounts":[{"name":"v","mountPath":"/v","subPath":"lib"}]}],"volumes":[{"name":"v","image":{"reference":"app:2"}}]}}`

// TestImageVolume: the image is pulled with the container's, and mounted by the runtime, where it can.
func TestImageVolume(t *testing.T) {
	simulate(t, func(w *world) {
		w.apply(imagePod)
		w.settle(3 * time.Second)
		if got := w.status().ContainerStatuses[0].State.Waiting; got == nil || got.Reason != reasonConfigError || !strings.Contains(got.Message, `volume "v": the container runtime cannot mount images (containerd can from 2.1 on`) {
			t.Errorf("waiting %+v", got)
		}
	})
	simulate(t, func(w *world) {
		w.settle(2 * time.Second) // the runtime has said what it is
		w.m.mu.Lock()
		w.m.rt.can.imageVolumes = true
		w.m.mu.Unlock()
		w.apply(imagePod)
		w.settle(3 * time.Second)
		if s := w.status(); s.Phase != phaseRunning {
			t.Fatalf("status %+v", s)
		}
		w.rt.mu.Lock()
		defer w.rt.mu.Unlock()
		for _, c := range w.rt.containers {
			if m := c.config.Mounts[0]; m.Image == nil || m.Image.UserSpecifiedImage != "app:2" || m.ImageSubPath != "lib" || !m.Readonly || m.HostPath != "" {
				t.Errorf("mount %+v", m)
			}
		}
		if w.event("Pulled") == nil {
			t.Error("the image of the volume was not pulled")
		}
	})
	if c := imageOf("c", &corev1.ImageVolume{Reference: "app:latest"}); c.ImagePullPolicy != pullAlways {
		t.Errorf("policy %q", c.ImagePullPolicy)
	}
}
