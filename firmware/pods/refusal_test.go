package pods

import (
	"errors"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestRefusalsOfTheRuntime(t *testing.T) {
	const runc = "container runtime: StartContainer: failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
	limited := &corev1.Container{Name: "web", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": "64Ki"}}}
	for _, c := range []struct {
		container *corev1.Container
		err       string
		want      []string
	}{
		{limited, "unable to set memory limit to 65536 (current usage: 2093056, peak usage: 2252800): unknown (Unknown)",
			[]string{"the memory limit 64Ki is too small", `raise resources.limits.memory of container "web"`, "unable to set memory limit to 65536: unknown"}},
		{limited, "container init was OOM-killed (memory limit too low?): unknown", []string{"the memory limit 64Ki is too small"}},
		{&corev1.Container{Name: "web"}, "container init was OOM-killed (memory limit too low?): unknown", []string{"OOM-killed"}},
		{limited, `unable to start container process: exec: "/nonexistent": stat /nonexistent: no such file or directory: unknown`,
			[]string{"the image has no such program", `the command of container "web"`, "/nonexistent"}},
		{limited, `exec /app: exec format error`, []string{"another processor"}},
		{limited, "failed to set MOUNT_ATTR_IDMAP on /var/lib/skerry/pods/u1/volumes/kubernetes.io~secret/s: invalid argument (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
			[]string{`a volume of container "web" cannot be mounted into a user namespace`, "Linux 5.12", "6.3", "upgrade the kernel, or remove spec.hostUsers"}},
		{limited, "no space left on device", []string{"no space left on device"}},
	} {
		got := explainRefusal(c.container, errors.New(runc+c.err))
		for _, want := range append(c.want, runc) {
			if !strings.Contains(got, want) {
				t.Errorf("%s\ndoes not say %q: %s", c.err, want, got)
			}
		}
	}
	again := func(used string) string {
		return explainRefusal(limited, errors.New("unable to set memory limit to 65536 (current usage: "+used+", peak usage: 2): x"))
	}
	if again("1") != again("22") {
		t.Error("the same cause has two texts")
	}
}
