package conformance

func probeRows() []Row {
	const page = "tasks/configure-pod-container/configure-liveness-readiness-startup-probes/"
	const types = "concepts/workloads/pods/pod-lifecycle/#types-of-probe"
	return area("Probes",
		Row{Name: "readiness-exec", Cite: page + "#define-readiness-probes", Class: Periods,
			Promise: "a container is not ready until its readiness probe succeeds, not ready again after failureThreshold failures, and never restarted for it",
			Spec: `
containers:
- name: main
  image: <box>
  command: [sh, -c, 'sleep 3; touch /tmp/ok; sleep 6; rm /tmp/ok; sleep 3600']
  readinessProbe: {exec: {command: [cat, /tmp/ok]}, periodSeconds: 1, failureThreshold: 2}`,
			Steps: []Step{
				{Want: []string{"phase Running", "main running", "main unready", "main started", "condition Ready False ContainersNotReady", "condition ContainersReady False ContainersNotReady", "event Warning Unhealthy Readiness probe failed"}},
				{Want: []string{"main ready", "condition Ready True", "condition ContainersReady True"}},
				{Want: []string{"main unready", "condition Ready False ContainersNotReady", "main restarts 0"}},
			}},
		Row{Name: "liveness-exec", Cite: page + "#define-a-liveness-command", Class: Periods,
			Promise: "a container whose liveness probe fails is killed and restarted",
			Spec: `
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: <box>
  command: [sh, -c, 'touch /tmp/ok; sleep 2; rm /tmp/ok; sleep 3600']
  livenessProbe: {exec: {command: [cat, /tmp/ok]}, periodSeconds: 1, failureThreshold: 2}`,
			Steps: []Step{{Want: []string{"main restarts 1", "main last terminated 137 Error", "event Warning Unhealthy Liveness probe failed", "event Normal Killing Container main failed liveness probe, will be restarted"}}}},
		Row{Name: "liveness-http", Cite: page + "#define-a-liveness-http-request", Class: Periods,
			Promise: "HTTP statuses from 200 to 399 are success, others failure",
			Spec: `
terminationGracePeriodSeconds: 5
containers:
- name: main
  image: <sample>
  env: [{name: UNHEALTHY_FILE, value: /v/ill}]
  ports: [{name: web, containerPort: 8080}]
  livenessProbe: {httpGet: {path: /healthz, port: web, scheme: HTTP, httpHeaders: [{name: X-Probe, value: a}]}, periodSeconds: 1, failureThreshold: 1}
  volumeMounts: [{name: v, mountPath: /v}]
- {name: makes-ill, image: <box>, command: [sh, -c, 'sleep 2; touch /v/ill; sleep 3; rm /v/ill; sleep 3600'], volumeMounts: [{name: v, mountPath: /v}]}
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"main restarts >=1", "event Warning Unhealthy HTTP probe failed with statuscode: 500", "main last terminated 0 Completed", "makes-ill restarts 0"}}}},
		Row{Name: "https", Cite: page + "#http-probes", Class: Periods,
			Promise: "a probe of scheme HTTPS skips the verification of the certificate",
			Spec: `
containers:
- {name: main, image: <sample>, args: [https], ports: [{name: web, containerPort: 8080}], readinessProbe: {httpGet: {path: /healthz, port: web, scheme: HTTPS}, periodSeconds: 1}, startupProbe: {httpGet: {path: /healthz, port: web, scheme: HTTPS}, periodSeconds: 1, failureThreshold: 30}}
- {name: expired, image: <sample>, args: [https, '-1'], env: [{name: PORT, value: '8081'}], readinessProbe: {httpGet: {path: /healthz, port: 8081, scheme: HTTPS}, periodSeconds: 1}, lifecycle: {postStart: {httpGet: {path: /healthz, port: 8082, scheme: HTTPS}}}}
- {name: plain, image: <sample>, env: [{name: PORT, value: '8083'}], readinessProbe: {httpGet: {path: /healthz, port: 8083, scheme: HTTPS}, periodSeconds: 1}}
initContainers:
- {name: first, image: <sample>, restartPolicy: Always, args: [https], env: [{name: PORT, value: '8082'}], startupProbe: {httpGet: {path: /healthz, port: 8082, scheme: HTTPS}, periodSeconds: 1, failureThreshold: 30}}`,
			Steps: []Step{{Want: []string{"main ready", "expired ready", "expired restarts 0", "no event FailedPostStartHook", "plain running", "plain unready", "event Warning Unhealthy server gave HTTP response to HTTPS client"}}}},
		Row{Name: "tcp", Cite: page + "#define-a-tcp-liveness-probe", Class: Periods,
			Promise: "a TCP probe succeeds if the port can be connected to",
			Spec: `
containers:
- {name: main, image: <sample>, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
- {name: deaf, image: <box>, command: [sleep, '3600'], readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}}`,
			Steps: []Step{{Want: []string{"main ready", "deaf unready", "deaf running", "event Warning Unhealthy connection refused", "condition Ready False ContainersNotReady"}}}},
		Row{Name: "grpc", Cite: page + "#define-a-grpc-liveness-probe", Class: Periods,
			Promise: "a gRPC probe asks the health service; a service that does not serve is not ready",
			Spec: `
containers:
- {name: main, image: <sample>, args: [grpc], readinessProbe: {grpc: {port: 8080}, periodSeconds: 1}}
- {name: named, image: <box>, command: [sleep, '3600'], readinessProbe: {grpc: {port: 8080, service: ill}, periodSeconds: 1}}`,
			Steps: []Step{{Want: []string{"main ready", "named unready", "named running", "event Warning Unhealthy NOT_SERVING"}}}},
		Row{Name: "startup", Cite: page + "#define-startup-probes", Class: Periods,
			Promise: "liveness and readiness probes wait until the startup probe has succeeded",
			Spec: `
containers:
- name: main
  image: <box>
  command: [sh, -c, 'sleep 4; touch /tmp/up; sleep 3600']
  startupProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}
  livenessProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1, failureThreshold: 1}
  readinessProbe: {exec: {command: [cat, /tmp/up]}, periodSeconds: 1}`,
			Steps: []Step{
				{Want: []string{"main running", "main unstarted", "main unready", "event Warning Unhealthy Startup probe failed"}},
				{Want: []string{"main started", "main ready", "main restarts 0"}},
			},
			Never: []string{"event Warning Unhealthy Liveness probe failed", "main restarts 1"}},
		Row{Name: "startup-fails", Cite: types, Class: Periods,
			Promise: "a startup probe that fails failureThreshold times kills the container",
			Spec: `
terminationGracePeriodSeconds: 1
containers:
- {name: main, image: <box>, command: [sleep, '3600'], startupProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 3}}`,
			Steps: []Step{{Want: []string{"main restarts 1", "main last terminated 137 Error", "event Normal Killing failed startup probe, will be restarted"}}}},
		Row{Name: "initial-delay", Cite: page + "#configure-probes", Class: Periods,
			Promise: "probes begin after initialDelaySeconds; until then the container is not ready",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], readinessProbe: {exec: {command: ['true']}, initialDelaySeconds: 5, periodSeconds: 1}}]",
			Steps: []Step{
				{Want: []string{"main running", "main unready", "condition Ready False ContainersNotReady"}},
				{Want: []string{"main ready", "condition Ready True"}},
			}},
		Row{Name: "success-threshold", Cite: page + "#configure-probes", Class: Periods,
			Promise: "a container is ready after successThreshold successes in a row",
			Spec: `
restartPolicy: Never
containers:
- name: main
  image: <box>
  command: [sh, -c, 'sleep 3600']
  readinessProbe: {exec: {command: [sh, -c, 'echo x >> /v/n']}, periodSeconds: 1, successThreshold: 3}
  volumeMounts: [{name: v, mountPath: /v}]
- {name: counts, image: <box>, command: [sh, -c, 'until test $(cat /v/n 2>/dev/null | wc -l) -ge 2; do sleep 0.05; done; exit 0'], volumeMounts: [{name: v, mountPath: /v}]}
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{
				{Want: []string{"main running", "main unready", "counts running"}},
				{Want: []string{"main ready", "counts terminated 0 Completed"}},
			}},
		Row{Name: "timeout", Cite: page + "#configure-probes", Class: Periods,
			Promise: "a probe that takes longer than timeoutSeconds has failed",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], readinessProbe: {exec: {command: [sleep, '30']}, timeoutSeconds: 1, periodSeconds: 2}}]",
			Steps:   []Step{{Want: []string{"main running", "main unready", "event Warning Unhealthy timed out"}}}},
		Row{Name: "probe-grace", Cite: page + "#probe-level-terminationgraceperiodseconds", Class: Periods,
			Promise: "a probe's own terminationGracePeriodSeconds goes before the pod's",
			Spec: `
terminationGracePeriodSeconds: 600
containers:
- name: main
  image: <box>
  command: [sh, -c, 'trap "" TERM; sleep 3600']
  livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 2}`,
			Steps: []Step{
				{Want: []string{"main restarts >=1", "main last terminated 137 Error"}},
				{Do: del("1"), Want: []string{"gone"}}}},
		Row{Name: "http-host", Cite: page + "#http-probes", Class: Periods,
			Promise: "httpGet.host is asked instead of the pod",
			Spec: `
containers:
- {name: main, image: <box>, command: [sleep, '3600'], readinessProbe: {httpGet: {host: 127.0.0.1, port: <regport>, path: /v2/}, periodSeconds: 1}}`,
			Steps: []Step{{Want: []string{"main ready"}}}},
		Row{Name: "never-and-liveness", Cite: types, Class: Periods,
			Promise: "a failed liveness probe obeys the restartPolicy: with Never the pod has failed",
			Spec: `
restartPolicy: Never
terminationGracePeriodSeconds: 1
containers: [{name: main, image: <box>, command: [sleep, '3600'], livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}}]`,
			Steps: []Step{{Want: []string{"phase Failed", "main terminated 137 Error", "main restarts 0"}}}},
	)
}
