package conformance

// tell is a pod whose one container, main, runs a shell script and tells what it prints: its termination message is all of it.
func tell(script, container, pod string) string {
	return "restartPolicy: Never\n" + indent(pod, "") + "containers:\n- name: main\n  image: <box>\n  command:\n  - sh\n  - -c\n  - |\n    exec >/dev/termination-log 2>&1\n" +
		indent(script, "    ") + indent(container, "  ")
}

func lifecycleRows() []Row {
	const pod, initc, sidecars, hooks = "concepts/workloads/pods/pod-lifecycle/", "concepts/workloads/pods/init-containers/", "concepts/workloads/pods/sidecar-containers/", "concepts/containers/container-lifecycle-hooks/"
	return area("Lifecycle",
		Row{Name: "always-runs", Cite: pod + "#pod-phase", Class: Soon,
			Promise: "a pod is Running once it is bound and its container runs; all its conditions are True",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], ports: [{name: web, containerPort: 80, protocol: TCP}]}]",
			Steps: []Step{{Want: []string{"phase Running", "main running", "main ready", "main started", "main restarts 0", "condition PodScheduled True", "condition PodReadyToStartContainers True",
				"condition Initialized True", "condition ContainersReady True", "condition Ready True", "event Normal Scheduled", "event Normal Pulled", "event Normal Created", "event Normal Started"}}}},
		Row{Name: "never-succeeds", Cite: pod + "#pod-phase", Class: Soon,
			Promise: "all containers ended with 0 and are not restarted: Succeeded",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <box>, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "main terminated 0 Completed", "main unready", "condition Ready False PodCompleted", "condition ContainersReady False PodCompleted", "main restarts 0"}}}},
		Row{Name: "never-fails", Cite: pod + "#pod-phase", Class: Soon,
			Promise: "a container ended with another status than 0 and is not restarted: Failed",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <box>, command: [sh, -c, exit 7]}, {name: other, image: <box>, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Failed", "main terminated 7 Error", "other terminated 0 Completed", "condition Ready False PodFailed", "main restarts 0"}}}},
		Row{Name: "onfailure-retries", Cite: pod + "#restart-policy", Class: Soon,
			Promise: "OnFailure restarts a container that failed, and not one that ended with 0",
			Spec: `
restartPolicy: OnFailure
containers: [{name: main, image: <box>, command: [sh, -c, 'test -e /v/second && exit 0; touch /v/second; exit 5'], volumeMounts: [{name: v, mountPath: /v}]}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main terminated 0 Completed", "main last terminated 5 Error", "main restarts 1"}}}},
		Row{Name: "always-restarts", Cite: pod + "#restart-policy", Class: BackOff,
			Promise: "Always restarts whatever the exit status; after the first restart with a back-off of 10 s, which doubles",
			Spec:    "containers: [{name: main, image: <box>, command: ['true']}]",
			Steps: []Step{
				{Want: []string{"main waiting CrashLoopBackOff back-off 10s restarting failed container=main", "phase Running", "main last terminated 0 Completed", "main unready", "event Warning BackOff", "condition Ready False ContainersNotReady"}},
				{Want: []string{"main restarts 2", "main waiting CrashLoopBackOff back-off 20s"}},
			}},
		Row{Name: "init-in-order", Cite: initc + "#understanding-init-containers", Class: Soon,
			Promise: "init containers run to completion, one after the other, before the containers",
			Spec: `
restartPolicy: Never
initContainers:
- {name: first, image: <box>, command: [sh, -c, 'sleep 1; echo -n one > /v/x'], volumeMounts: [{name: v, mountPath: /v}]}
- {name: second, image: <box>, command: [sh, -c, 'sleep 1; echo -n ,two >> /v/x'], volumeMounts: [{name: v, mountPath: /v}]}
containers: [{name: main, image: <box>, command: [sh, -c, 'cat /v/x > /dev/termination-log'], volumeMounts: [{name: v, mountPath: /v}]}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{
				{Want: []string{"phase Pending", "first running", "second waiting PodInitializing", "main waiting PodInitializing", "condition Initialized False ContainersNotInitialized"}},
				{Want: []string{"phase Succeeded", "first terminated 0 Completed", "second terminated 0 Completed", "first ready", "second came after first", "main came after second", "main says one,two", "condition Initialized True"}},
			}},
		Row{Name: "init-fails", Cite: initc + "#detailed-behavior", Class: Soon,
			Promise: "an init container fails in a pod with restartPolicy Never: the pod has failed, its containers never start",
			Spec: `
restartPolicy: Never
initContainers: [{name: first, image: <box>, command: [sh, -c, 'exit 9']}]
containers: [{name: main, image: <box>, command: ['true']}]`,
			Steps: []Step{{Want: []string{"phase Failed", "first terminated 9 Error", "main waiting PodInitializing", "condition Initialized False ContainersNotInitialized"}}},
			Never: []string{"main running", "main terminated * Completed"}},
		Row{Name: "init-retries", Cite: initc + "#detailed-behavior", Class: BackOff,
			Promise: "an init container that fails is restarted with back-off until it succeeds; until then the pod is Pending",
			Spec: `
initContainers: [{name: first, image: <box>, command: [sh, -c, 'echo x >> /v/n; test $(wc -l < /v/n) -ge 3'], volumeMounts: [{name: v, mountPath: /v}]}]
containers: [{name: main, image: <box>, command: [sleep, '3600']}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{
				{Want: []string{"phase Pending", "first waiting CrashLoopBackOff", "condition Initialized False ContainersNotInitialized", "event Warning BackOff"}},
				{Want: []string{"phase Running", "first restarts 2", "first terminated 0 Completed", "main ready"}},
			}},
		Row{Name: "sidecar", Cite: sidecars + "#sidecar-containers-and-pod-lifecycle", Class: Soon,
			Promise: "an init container with restartPolicy Always starts before the containers, runs beside them, and does not keep the pod from completing",
			Spec: `
restartPolicy: Never
initContainers:
- {name: side, image: <sample>, restartPolicy: Always, startupProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 30}}
containers: [{name: main, image: <box>, command: [sh, -c, 'wget -q -O /dev/termination-log http://127.0.0.1:8080/healthz; sleep 3']}]`,
			Steps: []Step{
				{Want: []string{"phase Running", "side running", "side started", "side ready", "main running", "condition Initialized True"}},
				{Want: []string{"phase Succeeded", "main terminated 0 Completed", "main says ok", "side terminated * Completed"}},
			},
			Never: []string{"side restarts 1"}},
		Row{Name: "sidecar-restarts", Cite: sidecars + "#pod-sidecar-containers", Class: Soon,
			Promise: "a sidecar that ends is started again, whatever the pod's restartPolicy",
			Spec: `
restartPolicy: Never
initContainers: [{name: side, image: <box>, restartPolicy: Always, command: [sh, -c, 'sleep 1; exit 4']}]
containers: [{name: main, image: <box>, command: [sleep, '3600']}]`,
			Steps: []Step{{Want: []string{"phase Running", "side restarts >=1", "side last terminated 4 Error", "main running", "main restarts 0"}}}},
		Row{Name: "poststart", Cite: hooks + "#hook-details", Class: Periods,
			Promise: "postStart runs right after the start; until it has ended the container is not Running",
			Spec: `
restartPolicy: Never
containers:
- name: main
  image: <box>
  command: [sh, -c, 'while ! test -e /v/hook; do sleep 0.1; done; cat /v/hook > /dev/termination-log']
  lifecycle: {postStart: {exec: {command: [sh, -c, 'sleep 2; echo hooked > /v/hook']}}}
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{
				{Want: []string{"main waiting ContainerCreating", "phase Pending"}},
				{Want: []string{"phase Succeeded", "main says hooked", "main ran >=2"}},
			}},
		Row{Name: "poststart-fails", Cite: hooks + "#hook-handler-implementations", Class: Periods,
			Promise: "a postStart hook that fails kills the container, and an event tells",
			Spec: `
terminationGracePeriodSeconds: 2
containers: [{name: main, image: <box>, command: [sleep, '3600'], lifecycle: {postStart: {exec: {command: [sh, -c, 'echo broken; exit 3']}}}}]`,
			Steps: []Step{{Want: []string{"event Warning FailedPostStartHook", "event Normal Killing", "main waiting CrashLoopBackOff", "main last terminated 137 Error"}}}},
		Row{Name: "prestop", Cite: hooks + "#hook-details", Class: Periods,
			Promise: "preStop runs before SIGTERM, here because the liveness probe failed",
			Spec: `
terminationGracePeriodSeconds: 20
containers:
- name: main
  image: <box>
  command: [sh, -c, 'trap "echo TERM >> /v/x; cat /v/x > /dev/termination-log; exit 6" TERM; test -e /v/x && sleep 3600; touch /v/x; while true; do sleep 0.1; done']
  livenessProbe: {exec: {command: [sh, -c, 'test -s /v/x']}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1}
  lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 1; echo -n hook, >> /v/x']}}}
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"main restarts 1", "main last terminated 6 Error", "main last says hook,TERM", "event Warning Unhealthy", "event Normal Killing"}}}},
		Row{Name: "prestop-sleep", Cite: hooks + "#hook-handler-implementations", Class: Periods,
			Promise: "a sleep hook holds the container's end up by so long",
			Spec: `
terminationGracePeriodSeconds: 20
containers:
- name: main
  image: <box>
  command: [sh, -c, 'trap "exit 6" TERM; echo $(date +%s) > /v/began; while true; do sleep 0.1; done']
  lifecycle: {preStop: {sleep: {seconds: 3}}}
  livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"main restarts >=1", "main last terminated 6 Error", "event Normal Killing"}}}},
		Row{Name: "hook-http", Cite: hooks + "#hook-handler-implementations", Class: Periods,
			Promise: "an httpGet hook asks the container",
			Spec: `
containers:
- name: main
  image: <sample>
  ports: [{name: web, containerPort: 8080}]
  lifecycle: {preStop: {httpGet: {path: /healthz, port: web}}}
- name: asks
  image: <box>
  command: [sleep, '3600']
  lifecycle: {postStart: {httpGet: {path: /healthz, port: 8080, scheme: HTTP, httpHeaders: [{name: X-Hook, value: 'yes'}]}}}`,
			Steps: []Step{{Want: []string{"main ready", "asks ready", "asks restarts 0", "no event FailedPostStartHook"}},
				{Do: del(""), Want: []string{"gone", "no event FailedPreStopHook"}}}},
		Row{Name: "deadline", Cite: "concepts/workloads/pods/init-containers/#detailed-behavior", Class: Periods,
			Promise: "a pod that is active for longer than activeDeadlineSeconds is stopped and has failed with DeadlineExceeded",
			Spec:    "activeDeadlineSeconds: 4\nterminationGracePeriodSeconds: 1\ncontainers: [{name: main, image: <box>, command: [sleep, '3600']}]",
			Steps:   []Step{{Want: []string{"phase Failed", "reason DeadlineExceeded", "main terminated 137 Error", "event DeadlineExceeded"}}}},
		Row{Name: "image-changes", Cite: "concepts/workloads/pods/#pod-update-and-replacement", Class: Soon,
			Promise: "the image of a container may change: it is restarted with the new one, the others go on",
			Spec:    "terminationGracePeriodSeconds: 1\ncontainers: [{name: main, image: <sample>, args: [sleep]}, {name: other, image: <box>, command: [sleep, '3600']}]",
			Steps: []Step{
				{Want: []string{"main ready", "other ready"}},
				{Do: patch(`{"spec":{"containers":[{"name":"main","image":"<reg>/sample:2"}]}}`), Want: []string{"main running", "main restarts 1", "other restarts 0", "field {.status.containerStatuses[?(@.name==\"main\")].image} is <reg>/sample:2", "event Normal Killing definition changed"}},
			}},
		Row{Name: "no-such-command", Cite: pod + "#container-state-terminated", Class: Soon,
			Promise: "a command that cannot be run is an error of the container, with the runtime's words",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <box>, command: [/no/such/command]}]",
			Steps:   []Step{{Want: []string{"phase Failed", "main terminated 128 StartError", "main says /no/such/command", "event Warning Failed"}}}},
		Row{Name: "command-args-workdir", Cite: "tasks/inject-data-application/define-command-argument-container/", Class: Soon,
			Promise: "command replaces the image's entrypoint, args its command; workingDir is where it runs",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c], args: ['pwd > /dev/termination-log; echo $0 >> /dev/termination-log', word], workingDir: /srv}
- {name: args, image: <sample>, args: [exit, '3']}`,
			Steps: []Step{{Want: []string{"main says /srv", "main says word", "args terminated 3 Error"}}}},
	)
}
