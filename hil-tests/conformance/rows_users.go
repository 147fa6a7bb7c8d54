package conformance

// userNamespaceRows are of pods whose users are others on the node. That two of them never share ids, and keep theirs, is TestUserNamespaces.
func userNamespaceRows() []Row {
	const page, howto = "concepts/workloads/pods/user-namespaces/", "tasks/configure-pod-container/user-namespaces/"
	return area("Security",
		Row{Name: "user-namespace", Cite: howto + "#create-pod", Class: Soon, Needs: NeedContainerd2,
			Promise: "hostUsers: false: root in the container is another user of the node, and what belongs to root in the image belongs to root",
			Spec: tell(`awk '{print "root is " ($2 >= 65536 ? "another" : "root") " of " $3, $1}' /proc/self/uid_map /proc/self/gid_map; id -u
stat -c 'busybox is of %u:%g' /bin/busybox; touch /x && stat -c 'x is of %u:%g' /x; hostname; cat /etc/hosts; cat /etc/resolv.conf >/dev/null && echo resolves`, "", "hostUsers: false"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says root is another of 65536 0", "main says busybox is of 0:0", "main says x is of 0:0", "main says security-user-namespace", "main says resolves"}}}},
		Row{Name: "user-namespace-off", Cite: page, Class: Soon,
			Promise: "hostUsers: true is the same as without the field: the users of the node",
			Spec:    tell("cat /proc/self/uid_map", "", "hostUsers: true"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says          0          0 4294967295"}}}},
		Row{Name: "user-namespace-volumes", Cite: page + "#pods-and-volumes", Class: Periods, Needs: NeedContainerd2,
			Promise: "volumes of such a pod have the owners, modes and fsGroup that they have without",
			Objects: `
apiVersion: v1
kind: ConfigMap
metadata: {name: <name>}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: <name>}
stringData: {word: hunter2}
`,
			Meta: "labels: {site: north}",
			Spec: `
restartPolicy: Never
hostUsers: false
securityContext: {fsGroup: 2000}
volumes:
- {name: disk, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: config, configMap: {name: <name>}}
- {name: secret, secret: {secretName: <name>, defaultMode: 0400}}
- {name: down, downwardAPI: {items: [{path: site, fieldRef: {fieldPath: "metadata.labels['site']"}}]}}
- {name: token, projected: {sources: [{serviceAccountToken: {path: token, audience: vault}}]}}
- {name: host, hostPath: {path: <dir>, type: Directory}}
containers:
- name: main
  image: <box>
  securityContext: {runAsUser: 1000}
  command:
  - sh
  - -c
  - |
    exec >/dev/termination-log 2>&1
    for v in disk memory; do echo x >/$v/x && stat -c "$v %u:%g" /$v/x; done
    cat /config/color /secret/word /down/site; cut -c1-3 /token/token; stat -L -c 'secret %u:%g %a' /secret/word
    stat -L -c 'token %u:%g %a' /token/token
    touch /host/x || echo refused; echo part >/disk/part/y && cat /part/y
  volumeMounts:
  - {name: disk, mountPath: /disk}
  - {name: memory, mountPath: /memory}
  - {name: config, mountPath: /config}
  - {name: secret, mountPath: /secret}
  - {name: down, mountPath: /down}
  - {name: token, mountPath: /token}
  - {name: host, mountPath: /host}
  - {name: disk, mountPath: /part, subPath: part}
- name: root
  image: <box>
  command: [sh, -c, 'touch /host/of-root && stat -c "file %u:%g" /host/of-root > /dev/termination-log']
  volumeMounts: [{name: host, mountPath: /host}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says disk 1000:2000", "main says memory 1000:2000", "main says blue", "main says hunter2", "main says north", "main says eyJ",
				"main says secret 0:2000 440", "main says token 0:2000", "main says refused", "main says part", "root says file 0:0"}}}},
		Row{Name: "user-namespace-file-system", Cite: page + "#before-you-begin", Class: Soon, Needs: NeedContainerd2,
			Promise: "a volume whose file system has no idmapped mounts keeps the container from starting",
			Spec:    "hostUsers: false\nvolumes: [{name: v, hostPath: {path: /proc}}]\ncontainers: [{name: main, image: <box>, command: [sleep, '3600'], volumeMounts: [{name: v, mountPath: /v}]}]",
			Steps:   []Step{{Want: []string{"main waiting RunContainerError no idmapped mounts", "event Warning Failed /proc"}}},
			Never:   []string{"main running"}},
		Row{Name: "user-namespace-capabilities", Cite: page, Class: Soon, Needs: NeedContainerd2,
			Promise: "capabilities of such a pod are good for what belongs to it, and for nothing of the node",
			Spec: tell("mkdir /tmp/m; mount -t tmpfs t /tmp/m && echo mounted; hostname other && hostname; echo 1 > /sys/kernel/mm/ksm/run || echo refused",
				"securityContext: {capabilities: {add: [SYS_ADMIN]}}", "hostUsers: false"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says mounted", "main says other", "main says refused"}}}},
		Row{Name: "user-namespace-beside", Cite: page, Class: Periods, Needs: NeedContainerd2,
			Promise: "what else starts in such a pod is in its user namespace: init containers, hooks, probes, ephemeral containers",
			Spec: `
hostUsers: false
shareProcessNamespace: true
volumes: [{name: v, emptyDir: {}}]
initContainers: [{name: first, image: <box>, command: [sh, -c, 'cat /proc/self/uid_map > /v/map; cat /v/map > /dev/termination-log'], volumeMounts: [{name: v, mountPath: /v}]}]
containers:
- name: main
  image: <box>
  command: [sleep, '3600']
  volumeMounts: [{name: v, mountPath: /v}]
  lifecycle: {postStart: {exec: {command: [cmp, /v/map, /proc/self/uid_map]}}}
  readinessProbe: {exec: {command: [cmp, /v/map, /proc/self/uid_map]}, periodSeconds: 1}`,
			Steps: []Step{
				{Want: []string{"main ready", "first says 65536", "first lacks 4294967295", "no event FailedPostStartHook"}},
				{Do: subresource("ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"debug","image":"<box>","command":["sh","-c","(cmp /proc/self/uid_map /proc/1/uid_map && echo same; ps) > /dev/termination-log"],"targetContainerName":"main"}]}}`),
					Want: []string{"debug terminated 0 Completed", "debug says same", "debug says sleep 3600", "main restarts 0"}},
			}},
		Row{Name: "user-namespace-privileged", Cite: page, Class: Soon, Needs: NeedContainerd2,
			Promise: "a privileged container of such a pod has all capabilities, but not on the node",
			Spec:    tell("grep CapEff /proc/self/status; mkdir /tmp/m; mount -t tmpfs t /tmp/m && echo mounted; mknod /tmp/m/null c 1 3 || echo refused", "securityContext: {privileged: true}", "hostUsers: false"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says 000001ff", "main says mounted", "main says refused"}}}},
		Row{Name: "user-namespace-image", Cite: "concepts/storage/volumes/#image", Class: Soon, Needs: NeedContainerd2,
			Promise: "an image as a volume belongs to root in such a pod, too",
			Spec:    tell("stat -c 'busybox is of %u:%g' /v/bin/busybox", "volumeMounts: [{name: v, mountPath: /v}]", "hostUsers: false\nvolumes: [{name: v, image: {reference: <box>, pullPolicy: IfNotPresent}}]"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says busybox is of 0:0"}}}},
		Row{Name: "proc-unmasked", Cite: "concepts/security/pod-security-standards/#baseline", Class: Soon, Needs: NeedContainerd2,
			Promise: "procMount Unmasked, in a pod with users of its own: nothing of /proc is masked or read-only",
			Spec: `
restartPolicy: Never
hostUsers: false
containers:
- {name: main, image: <box>, command: [sh, -c, 'echo $(grep -c " /proc/" /proc/mounts) mounts > /dev/termination-log'], securityContext: {procMount: Unmasked}}
- {name: masked, image: <box>, command: [sh, -c, 'echo $(grep -c " /proc/sys " /proc/mounts) mounts > /dev/termination-log']}`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says 0 mounts", "masked says 1 mounts"}}}},
	)
}
