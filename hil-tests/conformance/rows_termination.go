package conformance

func terminationRows() []Row {
	const page, message = "concepts/workloads/pods/pod-lifecycle/#pod-termination", "tasks/debug/debug-application/determine-reason-pod-failure/"
	return area("Termination",
		Row{Name: "graceful", Cite: page, Class: Soon,
			Promise: "deletion sends SIGTERM; a pod that obeys goes before its grace period is over",
			Spec:    "terminationGracePeriodSeconds: 600\ncontainers: [{name: main, image: <box>, command: [sh, -c, 'trap \"exit 0\" TERM; while true; do sleep 0.1; done']}]",
			Steps:   []Step{{Want: []string{"main ready"}}, {Do: del(""), Want: []string{"gone", "event Normal Killing Stopping container main"}}}},
		Row{Name: "readiness", Cite: page + "-flow", Class: Periods,
			Promise: "while a pod ends its readiness probe goes on, so that Services learn whether it still serves; its liveness probe does not",
			Meta:    "labels: {app: <name>}",
			Objects: "apiVersion: v1\nkind: Service\nmetadata: {name: <name>}\nspec: {selector: {app: <name>}, ports: [{port: 80}]}",
			Spec: `
terminationGracePeriodSeconds: 30
containers:
- name: main
  image: <box>
  command: [sh, -c, 'trap "sleep 2; touch /tmp/down" TERM; while true; do sleep 0.1; done']
  readinessProbe: {exec: {command: [sh, -c, 'test ! -e /tmp/down']}, periodSeconds: 1, failureThreshold: 2}
  livenessProbe: {exec: {command: [sh, -c, 'test ! -e /tmp/down']}, periodSeconds: 1, failureThreshold: 2}`,
			Steps: []Step{{Want: []string{"main ready", "endpoint true true false"}},
				{Do: del(""), Want: []string{"endpoint false true true", "endpoint false false true", "field {.metadata.deletionTimestamp} set", "main running", "main unready", "condition Ready False ContainersNotReady", "event Warning Unhealthy Readiness probe failed"}},
				{Do: del("1"), Want: []string{"gone"}}},
			Never: []string{"event Warning Unhealthy Liveness probe failed", "main restarts 1"}},
		Row{Name: "forced", Cite: page + "-flow", Class: Periods,
			Promise: "what has not ended after the grace period is killed",
			Spec:    "terminationGracePeriodSeconds: 3\ncontainers: [{name: main, image: <box>, command: [sh, -c, 'trap \"\" TERM; while true; do sleep 0.1; done']}]",
			Steps:   []Step{{Want: []string{"main ready"}}, {Do: del(""), Want: []string{"gone"}}}},
		Row{Name: "shortened", Cite: "concepts/workloads/pods/pod-lifecycle/#pod-termination-forced", Class: Periods,
			Promise: "a second deletion with a shorter grace period ends the pod sooner",
			Spec:    "terminationGracePeriodSeconds: 600\ncontainers: [{name: main, image: <box>, command: [sh, -c, 'trap \"\" TERM; while true; do sleep 0.1; done']}]",
			Steps:   []Step{{Want: []string{"main ready"}}, {Do: del(""), Want: []string{"field {.metadata.deletionTimestamp} set", "field {.metadata.deletionGracePeriodSeconds} is 600"}}, {Do: del("1"), Want: []string{"gone"}}}},
		Row{Name: "stop-signal", Cite: "concepts/workloads/pods/pod-lifecycle/#pod-termination-stop-signals", Class: Soon,
			Promise: "the image's STOPSIGNAL is sent instead of SIGTERM",
			Spec: `
terminationGracePeriodSeconds: 30
containers:
- name: main
  image: <reg>/box:quit
  command: [sh, -c, 'trap "echo QUIT > /dev/termination-log; exit 5" QUIT; trap "" TERM; test -e /v/x && sleep 3600; touch /v/x; while true; do sleep 0.1; done']
  livenessProbe: {exec: {command: [sh, -c, 'false']}, periodSeconds: 1, failureThreshold: 1}
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"main restarts >=1", "main last terminated 5 Error", "main last says QUIT"}}, {Do: del("1"), Want: []string{"gone"}}}},
		Row{Name: "message-file", Cite: message + "#customizing-the-termination-message", Class: Soon,
			Promise: "the termination message is what the container wrote to terminationMessagePath",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'echo words; echo why > /tmp/why; exit 3'], terminationMessagePath: /tmp/why, terminationMessagePolicy: File}
- {name: other, image: <box>, command: [sh, -c, 'echo default > /dev/termination-log']}
- {name: none, image: <box>, command: [sh, -c, 'echo words; exit 1']}`,
			Steps: []Step{{Want: []string{"main terminated 3 Error", "main says why", "main lacks words", "other says default", "none lacks words"}}}},
		Row{Name: "message-logs", Cite: message + "#customizing-the-termination-message", Class: Soon,
			Promise: "FallbackToLogsOnError takes the end of the log, only of a container that failed and wrote no message",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'echo first; echo last; exit 3'], terminationMessagePolicy: FallbackToLogsOnError}
- {name: fine, image: <box>, command: [sh, -c, 'echo words'], terminationMessagePolicy: FallbackToLogsOnError}
- {name: wrote, image: <box>, command: [sh, -c, 'echo words; echo why > /dev/termination-log; exit 1'], terminationMessagePolicy: FallbackToLogsOnError}`,
			Steps: []Step{{Want: []string{"main says last", "fine lacks words", "wrote says why", "wrote lacks words"}}}},
		Row{Name: "message-long", Cite: message, Class: Soon,
			Promise: "a message is cut after 4096 bytes",
			Spec:    tell("head -c 5000 /dev/zero | tr '\\0' x; echo end", "", ""),
			Steps:   []Step{{Want: []string{"main says xxxx", "main lacks end"}}}},
		Row{Name: "killed", Cite: "concepts/workloads/pods/pod-lifecycle/#container-state-terminated", Class: Soon,
			Promise: "a process that ended by a signal has exit code 128 and the signal's number",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'sh -c "kill -KILL \$\$"; exit $?']}
- {name: term, image: <box>, command: [sh, -c, 'sh -c "kill -TERM \$\$"; exit $?']}`,
			Steps: []Step{{Want: []string{"main terminated 137 Error", "term terminated 143 Error"}}}},
		Row{Name: "sidecars-last", Cite: "concepts/workloads/pods/sidecar-containers/#sidecar-containers-and-pod-lifecycle", Class: Periods,
			Promise: "on deletion the containers end first, then the sidecars, the last one first",
			Spec: `
terminationGracePeriodSeconds: 20
initContainers:
- {name: first, image: <box>, restartPolicy: Always, command: [sh, -c, 'trap "echo first >> /d/order; exit 0" TERM; while true; do sleep 0.1; done'], volumeMounts: [{name: d, mountPath: /d}]}
- {name: second, image: <box>, restartPolicy: Always, command: [sh, -c, 'trap "echo second >> /d/order; exit 0" TERM; while true; do sleep 0.1; done'], volumeMounts: [{name: d, mountPath: /d}]}
containers: [{name: main, image: <box>, command: [sh, -c, 'trap "sleep 1; echo main >> /d/order; exit 0" TERM; while true; do sleep 0.1; done'], volumeMounts: [{name: d, mountPath: /d}]}]
volumes: [{name: d, hostPath: {path: <dir>/d, type: DirectoryOrCreate}}]`,
			Steps: []Step{
				{Want: []string{"main ready", "first ready", "second ready"}},
				{Do: del(""), Want: []string{"gone"}},
				{Do: Action{"create", tell("tr '\\n' ' ' < /d/order", "volumeMounts: [{name: d, mountPath: /d}]", "volumes: [{name: d, hostPath: {path: <dir>/d}}]")}, Want: []string{"phase Succeeded", "main says main second first"}},
			}},
	)
}

func statusRows() []Row {
	const page, api = "concepts/workloads/pods/pod-lifecycle/", "reference/kubernetes-api/workload-resources/pod-v1/#PodStatus"
	return area("Status",
		Row{Name: "whole", Cite: api, Class: Soon,
			Promise: "a running pod's status: times, addresses, identities of container and image, the generation that it is about",
			Spec:    "priorityClassName: ''\nschedulerName: default-scheduler\nnodeSelector: {kubernetes.io/hostname: <node>}\nos: {name: linux}\nenableServiceLinks: false\nautomountServiceAccountToken: false\nserviceAccountName: default\npreemptionPolicy: PreemptLowerPriority\ncontainers: [{name: main, image: <box>, command: [sleep, '3600'], stdin: false, tty: false}]",
			Steps: []Step{{Want: []string{"phase Running", "field {.status.startTime} set", "field {.status.hostIP} set", "field {.status.hostIPs[0].ip} set", "field {.status.podIP} set", "field {.status.podIPs[0].ip} set",
				"field {.status.containerStatuses[0].containerID} has containerd://", "field {.status.containerStatuses[0].imageID} has @sha256:", "field {.status.containerStatuses[0].image} has /box:1",
				"field {.status.containerStatuses[0].state.running.startedAt} set", "field {.status.qosClass} is BestEffort", "observed", "field {.status.conditions[?(@.type==\"Ready\")].lastTransitionTime} set"}}}},
		Row{Name: "generation", Cite: "concepts/workloads/pods/#pod-generation", Class: Soon,
			Promise: "observedGeneration follows the spec that the node has acted on",
			Spec:    "terminationGracePeriodSeconds: 1\ncontainers: [{name: main, image: <sample>, args: [sleep]}]",
			Steps: []Step{{Want: []string{"main ready"}},
				{Do: patch(`{"spec":{"containers":[{"name":"main","image":"<reg>/sample:2"}]}}`), Want: []string{"observed", "field {.spec.containers[0].image} is <reg>/sample:2", "main running", "main restarts 1"}}}},
		Row{Name: "tty", Cite: api, Class: Soon,
			Promise: "tty and stdin: the container has a terminal, and an open standard input",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <box>, tty: true, stdin: true, stdinOnce: true, command: [sh, -c, 'tty > /dev/termination-log']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says /dev/"}}}},
		Row{Name: "tolerates", Cite: "concepts/scheduling-eviction/taint-and-toleration/", Class: Soon,
			Promise: "what only concerns the scheduler is left to it: affinity, spread, tolerations, gates that were opened",
			Spec: `
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {none: such}}}]
tolerations: [{key: any, operator: Exists}]
containers: [{name: main, image: <box>, command: [sleep, '3600']}]`,
			Steps: []Step{{Want: []string{"main ready"}}}},
		Row{Name: "unsupported", Cite: "concepts/workloads/pods/", Class: Soon,
			Promise: "(Skerry's own) a field that a gateway does not have is refused by name, in status and event, and nothing is started",
			Spec:    "containers: [{name: main, image: <box>, command: ['true'], volumeMounts: [{name: v, mountPath: /v}]}]\nvolumes: [{name: v, nfs: {server: 192.0.2.1, path: /}}]",
			Steps:   []Step{{Want: []string{"phase Pending", "reason Unsupported", "condition Ready False Unsupported", "event Warning Unsupported spec.volumes[0].nfs"}}},
			Never:   []string{"main running"}},
	)
}
