package conformance

// userNamespaceRows are of pods whose users are others on the node. That two of them never share ids, and keep theirs, is TestUserNamespaces.
func userNamespaceRows() []Row {
	const page, howto = "concepts/workloads/pods/user-namespaces/", "tasks/configure-pod-container/user-namespaces/"
	return area("Security",
		Row{Name: "user-namespace", Cite: howto + "#create-pod", Class: Soon, Needs: NeedContainerd2,
			Promise: "hostUsers: false: root in the container is another user of the node, and what belongs to root in the image belongs to root",
			Spec: tell(`awk '{print "root is " ($2 >= 65536 ? "another" : "root") " of " $3, $1}' /proc/self/uid_map /proc/self/gid_map; id -u
stat -c 'busybox is of %u:%g' /bin/busybox; touch /x && stat -c 'x is of %u:%g' /x; hostname; cat /etc/hosts`, "", "hostUsers: false"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says root is another of 65536 0", "main says busybox is of 0:0", "main says x is of 0:0", "main says security-user-namespace"}}}},
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
