//go:build integration

package pods_test

import (
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// testSecurity: a safe sysctl is set in the pod's namespace; what this kernel cannot do, or may not be done, fails the pod with the kubelet's reason.
func testSecurity(t *testing.T, w *world) {
	const safe = wire.Key("pods/default/safe/sec-1")
	w.put(safe, pod(`{"restartPolicy":"Never","securityContext":{"sysctls":[{"name":"net.ipv4.ip_unprivileged_port_start","value":"80"}]},"containers":[{"name":"c","image":"IMAGE","args":["id"]}]}`))
	w.await(safe, "ended", func(s *corev1.PodStatus) bool { return s.Phase == "Succeeded" })
	w.logged(safe, "c", "stdout F 80\n")
	for name, c := range map[string][2]string{
		"unsafe":   {`"securityContext":{"sysctls":[{"name":"kernel.msgmax","value":"65536"}]},"containers":[{"name":"c","image":"IMAGE"}]`, "SysctlForbidden"},
		"apparmor": {`"containers":[{"name":"c","image":"IMAGE","securityContext":{"appArmorProfile":{"type":"Localhost","localhostProfile":"edge"}}}]`, "AppArmor"},
		"groups":   {`"securityContext":{"supplementalGroupsPolicy":"Strict"},"containers":[{"name":"c","image":"IMAGE"}]`, "SupplementalGroupsPolicyNotSupported"},
	} {
		key := wire.Key("pods/default/" + name + "/sec-" + name)
		w.put(key, pod("{"+c[0]+"}"))
		s := w.await(key, "rejected", func(s *corev1.PodStatus) bool { return s.Phase == "Failed" })
		if s.Reason != c[1] || !strings.HasPrefix(s.Message, "Pod was rejected: ") {
			t.Errorf("%s: %s: %s", name, s.Reason, s.Message)
		}
		w.put(key, deleting("{"+c[0]+"}", "1"))
		w.gone(key, 15*time.Second)
	}
	// This runtime has no user namespaces (hil-tests/conformance has pods with them, on a runtime that has).
	const users = wire.Key("pods/default/users/sec-users")
	w.put(users, pod(`{"hostUsers":false,"containers":[{"name":"c","image":"IMAGE"}]}`))
	s := w.await(users, "refused", func(s *corev1.PodStatus) bool { return s.Reason == "Unsupported" })
	if s.Phase != "Pending" || !strings.HasPrefix(s.Message, "spec.hostUsers: the container runtime containerd 1.") || !strings.Contains(s.Message, "runc 1.2") {
		t.Errorf("users: %s %s", s.Phase, s.Message)
	}
	w.put(users, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.gone(users, 15*time.Second)
	w.put(safe, deleting(`{"containers":[{"name":"c","image":"IMAGE"}]}`, "1"))
	w.gone(safe, 15*time.Second)
}
