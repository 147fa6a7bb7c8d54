package conformance

func securityRows() []Row {
	const page = "tasks/configure-pod-container/security-context/"
	return area("Security",
		Row{Name: "users", Cite: page + "#set-the-security-context-for-a-pod", Class: Soon,
			Promise: "runAsUser, runAsGroup and supplementalGroups of the pod; a container's own go first",
			Spec: `
restartPolicy: Never
securityContext: {runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000, 4001]}
containers:
- {name: main, image: <box>, command: [sh, -c, 'id > /dev/termination-log']}
- {name: own, image: <box>, command: [sh, -c, 'id > /dev/termination-log'], securityContext: {runAsUser: 2000, runAsGroup: 2001}}`,
			Steps: []Step{{Want: []string{"main says uid=1000", "main says gid=3000", "main says 4000", "main says 4001", "own says uid=2000", "own says gid=2001", "own says 4000"}}}},
		Row{Name: "groups-of-image", Cite: page + "#implicit-group-memberships-defined-in-etc-group-in-the-container-image", Class: Soon,
			Promise: "with policy Merge the groups of the image's /etc/group are added",
			Spec:    tell("id -G", "", "securityContext: {runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000], supplementalGroupsPolicy: Merge}"),
			Steps:   []Step{{Want: []string{"main says 50000", "main says 4000"}}}},
		Row{Name: "nonroot-refused", Cite: page + "#set-the-security-context-for-a-container", Class: Soon,
			Promise: "runAsNonRoot keeps a container from starting that would run as root",
			Spec:    "securityContext: {runAsNonRoot: true}\ncontainers: [{name: main, image: <box>, command: [sleep, '3600']}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting CreateContainerConfigError root", "event Warning Failed"}}},
			Never:   []string{"main running"}},
		Row{Name: "nonroot", Cite: page + "#set-the-security-context-for-a-container", Class: Soon,
			Promise: "runAsNonRoot accepts another user, of the pod or, by number, of the image",
			Spec: `
restartPolicy: Never
securityContext: {runAsNonRoot: true}
containers:
- {name: main, image: <box>, command: [sh, -c, 'id -u > /dev/termination-log'], securityContext: {runAsUser: 1234, runAsNonRoot: true}}
- {name: image, image: <user>, command: [sh, -c, 'id -u > /dev/termination-log']}`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says 1234", "image says 1000"}}}},
		Row{Name: "capabilities", Cite: page + "#set-capabilities-for-a-container", Class: Soon,
			Promise: "capabilities are added to and dropped from the runtime's own; ALL is all",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'grep CapEff /proc/self/status > /dev/termination-log']}
- {name: adds, image: <box>, command: [sh, -c, 'grep CapEff /proc/self/status > /dev/termination-log'], securityContext: {capabilities: {add: [NET_ADMIN], drop: [CHOWN]}}}
- {name: none, image: <box>, command: [sh, -c, 'grep CapEff /proc/self/status > /dev/termination-log'], securityContext: {capabilities: {drop: [ALL]}}}
- {name: one, image: <box>, command: [sh, -c, 'grep CapEff /proc/self/status > /dev/termination-log'], securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}`,
			Steps: []Step{{Want: []string{"main says 00000000a80425fb", "adds says 00000000a80435fa", "none says 0000000000000000", "one says 0000000000000400"}}}},
		Row{Name: "privileged", Cite: page + "#set-the-security-context-for-a-container", Class: Soon,
			Promise: "a privileged container sees the node's devices, may mount, and has no seccomp filter",
			Spec:    tell("ls /dev/loop-control /dev/kmsg; mkdir /tmp/m; mount -t tmpfs t /tmp/m && echo mounted; grep -E '^Seccomp:' /proc/self/status", "securityContext: {privileged: true}", ""),
			Steps:   []Step{{Want: []string{"main says mounted", "main says /dev/kmsg", "main says Seccomp:\t0"}}}},
		Row{Name: "escalation", Cite: page + "#set-the-security-context-for-a-container", Class: Soon,
			Promise: "allowPrivilegeEscalation: false sets no_new_privs",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'grep NoNewPrivs /proc/self/status > /dev/termination-log'], securityContext: {allowPrivilegeEscalation: false, runAsUser: 1000}}
- {name: may, image: <box>, command: [sh, -c, 'grep NoNewPrivs /proc/self/status > /dev/termination-log'], securityContext: {allowPrivilegeEscalation: true}}`,
			Steps: []Step{{Want: []string{"main says NoNewPrivs:\t1", "may says NoNewPrivs:\t0"}}}},
		Row{Name: "read-only-root", Cite: page, Class: Soon,
			Promise: "readOnlyRootFilesystem: the image cannot be written, volumes can",
			Spec:    tell("touch /x || echo refused; touch /v/x && echo volume", "securityContext: {readOnlyRootFilesystem: true}\nvolumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, emptyDir: {}}]"),
			Steps:   []Step{{Want: []string{"main says refused", "main says volume"}}}},
		Row{Name: "seccomp", Cite: "tutorials/security/seccomp/#create-pod-that-uses-the-container-runtime-default-seccomp-profile", Class: Soon,
			Promise: "RuntimeDefault is a filter, Unconfined none; a container's own profile goes before the pod's",
			Spec: `
restartPolicy: Never
securityContext: {seccompProfile: {type: RuntimeDefault}}
containers:
- {name: main, image: <box>, command: [sh, -c, 'grep ^Seccomp: /proc/self/status > /dev/termination-log']}
- {name: free, image: <box>, command: [sh, -c, 'grep ^Seccomp: /proc/self/status > /dev/termination-log'], securityContext: {seccompProfile: {type: Unconfined}}}`,
			Steps: []Step{{Want: []string{"main says Seccomp:\t2", "free says Seccomp:\t0"}}}},
		Row{Name: "seccomp-localhost", Cite: "tutorials/security/seccomp/#create-a-pod-with-a-seccomp-profile-for-syscall-auditing", Class: Soon,
			Promise: "a Localhost profile that the node does not have keeps the container from starting",
			Spec:    "containers: [{name: main, image: <box>, command: ['true'], securityContext: {seccompProfile: {type: Localhost, localhostProfile: conformance/none.json}}}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting CreateContainerError none.json", "event Warning Failed"}}}},
		Row{Name: "proc-masked", Cite: "concepts/security/pod-security-standards/#baseline", Class: Soon,
			Promise: "procMount Default masks parts of /proc and makes others read-only",
			Spec:    tell("wc -c < /proc/kcore; grep -c ' /proc/sys ' /proc/mounts; echo 0 > /proc/sys/kernel/panic || echo refused", "securityContext: {procMount: Default}", ""),
			Steps:   []Step{{Want: []string{"main says refused", "main says 1"}}}},
		Row{Name: "sysctls", Cite: "tasks/administer-cluster/sysctl-cluster/#setting-sysctls-for-a-pod", Class: Soon,
			Promise: "safe sysctls are set in the pod's namespaces",
			Spec:    tell("cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/ip_unprivileged_port_start", "", "securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: 30000 30100}, {name: net.ipv4.ip_unprivileged_port_start, value: '80'}]}"),
			Steps:   []Step{{Want: []string{"main says 30000\t30100", "main says 80"}}}},
		Row{Name: "sysctl-forbidden", Cite: "tasks/administer-cluster/sysctl-cluster/#enabling-unsafe-sysctls", Class: Soon,
			Promise: "a pod with an unsafe sysctl that the node does not allow fails to start there",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600']}]\nsecurityContext: {sysctls: [{name: kernel.msgmax, value: '65536'}]}",
			Steps:   []Step{{Want: []string{"phase Failed", "reason SysctlForbidden", "event Warning SysctlForbidden"}}},
			Never:   []string{"main running"}},
		Row{Name: "apparmor", Cite: "tutorials/security/apparmor/", Class: Soon,
			Promise: "appArmorProfile Unconfined is accepted, with or without AppArmor in the kernel",
			Spec:    tell("echo ran", "securityContext: {appArmorProfile: {type: Unconfined}}", "securityContext: {appArmorProfile: {type: Unconfined}}"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says ran"}}}},
	)
}
