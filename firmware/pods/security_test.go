package pods

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestForbiddenSysctls(t *testing.T) {
	modern := kernel{6, 1}
	for _, c := range []struct {
		name    string
		spec    corev1.PodSpec
		running kernel
		want    string
	}{
		{"net.ipv4.ip_unprivileged_port_start", corev1.PodSpec{}, modern, ""},
		{"net/ipv4/ip_local_port_range", corev1.PodSpec{}, modern, ""},
		{"net.ipv4.tcp_rmem", corev1.PodSpec{}, kernel{4, 14}, `"net.ipv4.tcp_rmem" not allowlisted`},
		{"net.ipv4.tcp_rmem", corev1.PodSpec{}, kernel{4, 15}, ""},
		{"kernel.msgmax", corev1.PodSpec{}, modern, `"kernel.msgmax" not allowlisted`},
		{"kernel.sem", corev1.PodSpec{}, modern, ""},
		{"net.core.somaxconn", corev1.PodSpec{}, modern, ""},
		{"vm.overcommit_memory", corev1.PodSpec{}, modern, "not known to be namespaced"},
		{"net.ipv4.tcp_syncookies", corev1.PodSpec{HostNetwork: true}, modern, "not allowed with host net enabled"},
		{"kernel.shm_rmid_forced", corev1.PodSpec{HostIPC: true}, modern, "not allowed with host ipc enabled"},
		{"net.ipv4.tcp_syncookies", corev1.PodSpec{}, kernel{}, ""},
		{"user.max_user_namespaces", corev1.PodSpec{}, modern, "not allowed with host user enabled"},
		{"user.max_user_namespaces", corev1.PodSpec{HostUsers: new(bool)}, modern, ""},
	} {
		got := forbiddenSysctl(&c.spec, c.name, []string{"kernel.sem", "net.core.*", "vm.*", "user.*"}, c.running)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s on %v: %q, want %q", c.name, c.running, got, c.want)
		}
	}
	for text, want := range map[string]kernel{"6.1.0-18-arm64\n": {6, 1}, "5.10.0": {5, 10}, "x": {}} {
		if got := kernelOf(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	for in, want := range map[string]string{"net/ipv4/conf/eth0.5/rp_filter": "net.ipv4.conf.eth0/5.rp_filter", "net.ipv4.x": "net.ipv4.x", "plain": "plain"} {
		if got := sysctlName(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestInsecurePodsAreRejected: what this node cannot enforce fails the pod with the reason, and nothing of it is started.
func TestInsecurePodsAreRejected(t *testing.T) {
	with := func(sc, csc string) string {
		return `{"metadata":{"name":"web","namespace":"default","uid":"u1"},"spec":{"securityContext":{` + sc + `},"containers":[{"name":"c","image":"app:1","securityContext":{` + csc + `}}]}}`
	}
	for doc, want := range map[string][2]string{
		with(`"sysctls":[{"name":"kernel.msgmax","value":"1"}]`, ""):              {reasonSysctl, `Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted`},
		with("", `"appArmorProfile":{"type":"Localhost","localhostProfile":"p"}`): {reasonAppArmor, "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		with(`"appArmorProfile":{"type":"Localhost","localhostProfile":"p"}`, ""): {reasonAppArmor, ""},
		with("", `"seLinuxOptions":{"level":"s0:c1"}`):                            {reasonSELinux, ""},
		with(`"supplementalGroupsPolicy":"Strict"`, ""):                           {reasonGroups, "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node"},
		with(`"sysctls":[{"name":"net.ipv4.tcp_syncookies","value":"1"}],"appArmorProfile":{"type":"Unconfined"}`, `"appArmorProfile":{"type":"Unconfined"}`): {"", ""},
		with(`"appArmorProfile":{"type":"RuntimeDefault"}`, ""): {reasonAppArmor, "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"},
	} {
		sys := t.TempDir()
		simulate(t, func(w *world) {
			w.stop()
			w.o.Sys = sys
			w.start()
			w.apply(doc)
			w.settle(5 * time.Second)
			s := w.status()
			if want[0] == "" {
				if s.Phase != "Running" {
					t.Errorf("%s: %s %s %s", doc, s.Phase, s.Reason, s.Message)
				}
				return
			}
			if s.Phase != "Failed" || s.Reason != want[0] || !strings.Contains(s.Message, want[1]) || len(w.rt.boxes) > 0 || w.event(want[0]) == nil {
				t.Errorf("%s: %s %s %s, %d sandboxes", doc, s.Phase, s.Reason, s.Message, len(w.rt.boxes))
			}
		})
	}
}

// TestSecurityReachesTheRuntime: where the kernel and the runtime can, they are told.
func TestSecurityReachesTheRuntime(t *testing.T) {
	d := decode(t, `{"securityContext":{"supplementalGroupsPolicy":"Strict","seLinuxOptions":{"level":"s0:c1"},"appArmorProfile":{"type":"RuntimeDefault"}},
	"containers":[{"name":"c","image":"app:1"},{"name":"d","image":"app:1","securityContext":{"appArmorProfile":{"type":"Localhost","localhostProfile":"edge"},"seLinuxOptions":{"type":"t"}}}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	of := func(i int) *cri.LinuxContainerSecurityContext {
		out, err := (&launch{pod: &d.pod, container: &d.pod.Spec.Containers[i], host: &host{}}).security()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	c, own := of(0), of(1)
	if c.SupplementalGroupsPolicy != cri.SupplementalGroupsStrict || c.SELinuxOptions.Level != "s0:c1" || *c.Apparmor != (cri.SecurityProfile{}) {
		t.Errorf("container %+v", c)
	}
	if own.Apparmor.ProfileType != cri.ProfileLocalhost || own.Apparmor.LocalhostRef != "edge" || own.SELinuxOptions.Type != "t" {
		t.Errorf("container %+v", own)
	}
	sys := tree(t, map[string]string{"module/apparmor/parameters/enabled": "Y\n", "fs/selinux/enforce": "1"})
	m := &Manager{o: Options{Sys: sys, Proc: "/proc"}}
	m.rt.strictGroups = true
	if r := m.insecure(&d.pod.Spec); r != nil {
		t.Errorf("rejected: %+v", r)
	}
	bad := decode(t, `{"containers":[{"name":"c","image":"app:1","securityContext":{"appArmorProfile":{"type":"Localhost"}}}]}`)
	if _, err := (&launch{pod: &bad.pod, container: &bad.pod.Spec.Containers[0], host: &host{}}).security(); err == nil || !strings.Contains(err.Error(), "localhostProfile") {
		t.Errorf("a profile without a name: %v", err)
	}
}
