package conformance

func volumeRows() []Row {
	const page, projected = "concepts/storage/volumes/", "concepts/storage/projected-volumes/"
	const config = `
apiVersion: v1
kind: ConfigMap
metadata: {name: <name>}
data: {a: alpha, b: beta}
binaryData: {bin: AAEC}
`
	const secret = `
apiVersion: v1
kind: Secret
metadata: {name: <name>}
stringData: {user: admin, password: hunter2}
`
	return area("Volumes",
		Row{Name: "emptydir-shared", Cite: page + "#emptydir", Class: Soon,
			Promise: "an emptyDir is empty at first, shared by the pod's containers, and outlives a container's end",
			Spec: `
restartPolicy: OnFailure
containers:
- {name: main, image: <box>, command: [sh, -c, 'test -e /v/kept && { cat /v/kept > /dev/termination-log; exit 0; }; n=$(ls -A /v | wc -l); echo $n > /v/kept; exit 1'], volumeMounts: [{name: v, mountPath: /v}]}
- {name: other, image: <box>, command: [sh, -c, 'until test -e /o/kept; do sleep 0.1; done'], volumeMounts: [{name: v, mountPath: /o}]}
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says 0", "main restarts 1", "other terminated 0 Completed"}}}},
		Row{Name: "emptydir-memory", Cite: page + "#emptydir", Class: Soon,
			Promise: "medium Memory is a tmpfs, as large as sizeLimit",
			Spec:    tell(`grep ' /v ' /proc/mounts`, "volumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 3Mi}}]"),
			Steps:   []Step{{Want: []string{"main says tmpfs", "main says size=3072k"}}}},
		Row{Name: "hostpath-create", Cite: page + "#hostpath", Class: Soon,
			Promise: "DirectoryOrCreate and FileOrCreate make what is missing, 0755 and 0644",
			Spec: tell(`stat -c '%n %a %F' /d /f; echo x > /d/made`, "volumeMounts: [{name: d, mountPath: /d}, {name: f, mountPath: /f}]",
				"volumes: [{name: d, hostPath: {path: <dir>/d, type: DirectoryOrCreate}}, {name: f, hostPath: {path: <dir>/f, type: FileOrCreate}}]"),
			Steps: []Step{{Want: []string{"main says /d 755 directory", "main says /f 644 regular"}}}},
		Row{Name: "hostpath-types", Cite: page + "#hostpath-volume-types", Class: Soon,
			Promise: "the type is checked before the pod starts; devices and files are what they are",
			Spec: tell(`stat -c '%n %F' /n /z`, "volumeMounts: [{name: n, mountPath: /n}, {name: z, mountPath: /z, readOnly: true}]",
				"volumes: [{name: n, hostPath: {path: /dev/null, type: CharDevice}}, {name: z, hostPath: {path: /etc, type: Directory}}]"),
			Steps: []Step{{Want: []string{"main says /n character special file", "main says /z directory"}}}},
		Row{Name: "hostpath-missing", Cite: page + "#hostpath-volume-types", Class: Soon,
			Promise: "a hostPath that is not what its type says keeps the pod from starting, and an event tells",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], volumeMounts: [{name: v, mountPath: /v}]}]\nvolumes: [{name: v, hostPath: {path: <dir>/none, type: Directory}}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting ContainerCreating", "event Warning FailedMount <dir>/none"}}},
			Never:   []string{"main running"}},
		Row{Name: "configmap", Cite: page + "#configmap", Class: Soon, Objects: config,
			Promise: "keys become files; items choose and place them, with modes; the volume is read-only",
			Spec: tell(`cat /all/a; stat -L -c '%n %a' /all/a /some/x/y; cat /some/x/y; ls /some; wc -c < /all/bin; touch /all/new || echo refused`,
				"volumeMounts: [{name: all, mountPath: /all}, {name: some, mountPath: /some}]",
				"volumes: [{name: all, configMap: {name: <name>, defaultMode: 0640}}, {name: some, configMap: {name: <name>, items: [{key: b, path: x/y, mode: 0400}]}}]"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says alpha", "main says /all/a 640", "main says /some/x/y 400", "main says beta", "main says 3", "main says Read-only file system"}}}},
		Row{Name: "configmap-missing", Cite: page + "#configmap", Class: Refresh,
			Promise: "a pod waits for a configMap that is not there, and an event tells; it starts as soon as there is one",
			Spec:    tell("cat /v/a", "volumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, configMap: {name: <name>}}]"),
			Steps: []Step{
				{Want: []string{"phase Pending", "main waiting ContainerCreating", "event Warning FailedMount <name>"}},
				{Do: apply(config), Want: []string{"phase Succeeded", "main says alpha"}},
			}},
		Row{Name: "configmap-optional", Cite: page + "#configmap", Class: Soon,
			Promise: "an optional configMap or secret that is not there leaves the volume empty",
			Spec: tell("ls -A /c /s | grep -v '^[./]' | grep . || echo nothing", "volumeMounts: [{name: c, mountPath: /c}, {name: s, mountPath: /s}]",
				"volumes: [{name: c, configMap: {name: <name>, optional: true}}, {name: s, secret: {secretName: <name>, optional: true}}]"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main terminated 0 Completed"}}}},
		Row{Name: "configmap-follows", Cite: "tasks/configure-pod-container/configure-pod-configmap/#mounted-configmaps-are-updated-automatically", Class: Refresh, Objects: config,
			Promise: "a changed configMap reaches the volumes of running pods, as one step",
			Spec: tell("until grep -q changed /v/a; do sleep 0.1; done; cat /v/a /v/b; readlink /v/a; readlink /v/..data | cut -c1-2",
				"volumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, configMap: {name: <name>}}]"),
			Steps: []Step{
				{Want: []string{"main running"}},
				{Do: apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: <name>}\ndata: {a: changed, b: gamma}"), Want: []string{"phase Succeeded", "main says changed", "main says gamma", "main says ..data/a"}},
			}},
		Row{Name: "secret", Cite: "concepts/configuration/secret/#using-secrets-as-files-from-a-pod", Class: Soon, Objects: secret,
			Promise: "a secret's keys are files in memory, not on disk, with defaultMode",
			Spec: tell(`cat /s/user; stat -L -c '%a' /s/password; grep ' /s ' /proc/mounts; touch /s/x || echo refused`, "volumeMounts: [{name: s, mountPath: /s, readOnly: true}]",
				"volumes: [{name: s, secret: {secretName: <name>, defaultMode: 0400}}]"),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says admin", "main says 400", "main says tmpfs", "main says refused"}}}},
		Row{Name: "downward", Cite: "concepts/workloads/pods/downward-api/", Class: Soon,
			Meta:    "labels: {tier: edge}\nannotations: {note: 'hello \"you\"'}",
			Promise: "a pod's fields and a container's resources are files",
			Spec: tell(`for f in /d/*; do echo "$(basename $f)=$(cat $f)"; done; stat -L -c %a /d/name`,
				"resources: {requests: {cpu: 50m, memory: 8Mi}, limits: {cpu: '1', memory: 64Mi}}\nvolumeMounts: [{name: d, mountPath: /d}]", `
volumes:
- name: d
  downwardAPI:
    defaultMode: 0444
    items:
    - {path: name, mode: 0440, fieldRef: {apiVersion: v1, fieldPath: metadata.name}}
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {path: annotation, fieldRef: {fieldPath: "metadata.annotations['note']"}}
    - {path: limit, resourceFieldRef: {containerName: main, resource: limits.memory, divisor: 1Mi}}
    - {path: request, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}`),
			Steps: []Step{{Want: []string{"main says name=<name>", `main says labels=tier="edge"`, `main says annotation=hello "you"`, "main says limit=64", "main says request=50", "main says 440"}}}},
		Row{Name: "downward-follows", Cite: "tasks/inject-data-application/downward-api-volume-expose-pod-information/", Class: Refresh,
			Meta:    "labels: {tier: edge}",
			Promise: "changed labels reach the files of running pods",
			Spec:    tell("until grep -q cloud /d/labels; do sleep 0.1; done; cat /d/labels", "volumeMounts: [{name: d, mountPath: /d}]", "volumes: [{name: d, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]"),
			Steps: []Step{
				{Want: []string{"main running"}},
				{Do: patch(`{"metadata":{"labels":{"tier":"cloud"}}}`), Want: []string{"phase Succeeded", `main says tier="cloud"`}},
			}},
		Row{Name: "projected", Cite: projected, Class: Soon, Objects: config + "---" + secret, Meta: "labels: {tier: edge}",
			Promise: "several sources in one folder",
			Spec: tell(`cat /p/conf/a /p/user /p/labels; stat -L -c %a /p/user /p/conf/a`, "volumeMounts: [{name: p, mountPath: /p}]", `
volumes:
- name: p
  projected:
    defaultMode: 0440
    sources:
    - configMap: {name: <name>, items: [{key: a, path: conf/a}]}
    - secret: {name: <name>, items: [{key: user, path: user, mode: 0400}]}
    - downwardAPI: {items: [{path: labels, mode: 0444, fieldRef: {apiVersion: v1, fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: '1'}}]}`),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says alpha", "main says admin", `main says tier="edge"`, "main says 400", "main says 440"}}}},
		Row{Name: "subpath", Cite: page + "#using-subpath", Class: Soon, Objects: config,
			Promise: "subPath mounts a part of a volume; subPathExpr takes it from the environment",
			Spec: `
restartPolicy: Never
initContainers: [{name: makes, image: <box>, command: [sh, -c, 'mkdir /v/part; echo inside > /v/part/file'], volumeMounts: [{name: v, mountPath: /v}]}]
containers:
- name: main
  image: <box>
  command: [sh, -c, 'exec > /dev/termination-log 2>&1; cat /here/file /etc/one.conf; touch /mine/x; ls -d /v/*']
  env: [{name: WHO, value: me}]
  volumeMounts:
  - {name: v, mountPath: /here, subPath: part}
  - {name: v, mountPath: /mine, subPathExpr: of-$(WHO)}
  - {name: v, mountPath: /v, readOnly: true}
  - {name: c, mountPath: /etc/one.conf, subPath: a}
volumes: [{name: v, emptyDir: {}}, {name: c, configMap: {name: <name>}}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says inside", "main says alpha", "main says /v/of-me"}}}},
		Row{Name: "read-only", Cite: page + "#read-only-mounts", Class: Soon,
			Promise: "a read-only mount cannot be written, though others may write the volume",
			Spec:    tell("touch /rw/x && ls /ro; touch /ro/y || echo refused", "volumeMounts: [{name: v, mountPath: /rw}, {name: v, mountPath: /ro, readOnly: true, recursiveReadOnly: IfPossible}]", "volumes: [{name: v, emptyDir: {}}]"),
			Steps:   []Step{{Want: []string{"main says x", "main says refused"}}}},
		Row{Name: "propagation", Cite: page + "#mount-propagation", Class: Soon,
			Promise: "Bidirectional passes mounts of a privileged container to others with HostToContainer; None gets none",
			Spec: `
restartPolicy: Never
containers:
- {name: mounts, image: <box>, securityContext: {privileged: true}, command: [sh, -c, 'until test -e /v/f -a -e /v/p; do sleep 0.1; done; mkdir -p /v/m; mount -t tmpfs t /v/m && touch /v/m/seen; until test -e /v/done; do sleep 0.1; done; umount /v/m'], volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}
- {name: follows, image: <box>, command: [sh, -c, 'touch /v/f; until test -e /v/m/seen; do sleep 0.1; done; echo got it > /dev/termination-log'], volumeMounts: [{name: v, mountPath: /v, mountPropagation: HostToContainer}]}
- {name: private, image: <box>, command: [sh, -c, 'touch /v/p; sleep 3; test -e /v/m/seen || echo got none > /dev/termination-log; touch /v/done'], volumeMounts: [{name: v, mountPath: /v, mountPropagation: None}]}
volumes: [{name: v, hostPath: {path: <shared>/<name>, type: DirectoryOrCreate}}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "follows says got it", "private says got none"}}}},
		Row{Name: "fsgroup", Cite: "tasks/configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods", Class: Soon, Objects: secret,
			Promise: "volumes belong to the group fsGroup, which may write, and processes are in it",
			Spec: tell(`id; stat -c '%g %A' /e; touch /e/x && stat -c 'new %g' /e/x; cat /s/user; stat -L -c 'secret %g %a' /s/user`, "volumeMounts: [{name: e, mountPath: /e}, {name: s, mountPath: /s}]", `
securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch}
volumes: [{name: e, emptyDir: {}}, {name: s, secret: {secretName: <name>, defaultMode: 0400}}]`),
			Steps: []Step{{Want: []string{"phase Succeeded", "main says 2000", "main says new 2000", "main says admin", "main says secret 2000 440", "main says drwxrwsrwx"}}}},
	)
}
