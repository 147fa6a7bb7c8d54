package conformance

import "slices"

// newerRows are of fields that came to Kubernetes, or to gateways, later than the others.
func newerRows() []Row {
	return slices.Concat(newerLifecycle(), newerResources(), newerVolumes(), userNamespaceRows())
}

func newerLifecycle() []Row {
	const pod = "concepts/workloads/pods/pod-lifecycle/"
	return slices.Concat(area("Lifecycle",
		Row{Name: "readiness-gate", Cite: pod + "#pod-readiness-gate", Class: Periods,
			Promise: "a pod with a readiness gate is ready when its containers are and somebody has set the condition",
			Spec:    "readinessGates: [{conditionType: example.com/balanced}]\ncontainers: [{name: main, image: <box>, command: [sleep, '3600']}]",
			Steps: []Step{
				{Want: []string{"main ready", "condition ContainersReady True", "condition Ready False ReadinessGatesNotReady"}},
				{Do: subresource("status", `{"status":{"conditions":[{"type":"example.com/balanced","status":"True"}]}}`), Want: []string{"condition Ready True", "condition example.com/balanced True"}},
			}},
		Row{Name: "ephemeral", Cite: "concepts/workloads/pods/ephemeral-containers/", Class: Periods,
			Promise: "an ephemeral container runs in a pod that runs, sees the processes of its target, and disturbs nobody",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600']}]",
			Steps: []Step{
				{Want: []string{"main ready"}},
				{Do: subresource("ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"debug","image":"<box>","command":["sh","-c","ps > /dev/termination-log"],"targetContainerName":"main"}]}}`),
					Want: []string{"debug terminated 0 Completed", "debug says sleep 3600", "main restarts 0", "main ready"}},
			}},
		Row{Name: "restart-rules", Cite: pod + "#container-restart-rules", Class: Soon,
			Promise: "a container's own rules and policy decide about its restart before the pod's",
			Spec: `
restartPolicy: Never
containers:
- name: main
  image: <box>
  command: [sh, -c, 'test -e /v/second && exit 3; touch /v/second; exit 42']
  restartPolicy: Never
  restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
  volumeMounts: [{name: v, mountPath: /v}]
volumes: [{name: v, emptyDir: {}}]`,
			Steps: []Step{{Want: []string{"phase Failed", "main terminated 3 Error", "main last terminated 42 Error", "main restarts 1"}}}},
		Row{Name: "stop-signal", Cite: pod + "#pod-termination-stop-signals", Class: Soon, Needs: NeedContainerd2,
			Promise: "the status says by which signal a container is stopped: that of its image, or SIGTERM",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600']}, {name: quits, image: <reg>/box:quit, command: [sleep, '3600']}]",
			Steps:   []Step{{Want: []string{"main running", "quits running", "field {.status.containerStatuses[0].stopSignal} is SIGTERM", "field {.status.containerStatuses[1].stopSignal} is SIGQUIT"}}}},
		Row{Name: "hook-host", Cite: "concepts/containers/container-lifecycle-hooks/#hook-handler-implementations", Class: Periods,
			Promise: "hooks sleep, or ask another host than the pod, with headers",
			Spec: `
containers:
- name: main
  image: <box>
  command: [sleep, '3600']
  lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {httpGet: {host: 127.0.0.1, port: <regport>, path: /v2/, scheme: HTTP, httpHeaders: [{name: X-Hook, value: stop}]}}}
- name: asks
  image: <box>
  command: [sleep, '3600']
  lifecycle: {postStart: {httpGet: {host: 127.0.0.1, port: <regport>, path: /v2/}}}`,
			Steps: []Step{{Want: []string{"main ready", "asks ready", "no event FailedPostStartHook"}}, {Do: del("2"), Want: []string{"gone", "no event FailedPreStopHook"}}}},
	), area("Probes",
		Row{Name: "tcp-host", Cite: "tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#tcp-probes", Class: Periods,
			Promise: "a TCP probe can ask another host than the pod",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], readinessProbe: {tcpSocket: {host: 127.0.0.1, port: <regport>}, periodSeconds: 1}}]",
			Steps:   []Step{{Want: []string{"main ready"}}}},
	), area("Networking",
		Row{Name: "fqdn", Cite: "concepts/services-networking/dns-pod-service/#pod-s-sethostnameasfqdn-field", Class: Soon,
			Promise: "setHostnameAsFQDN: the host name is the pod's full name",
			Spec:    tell("hostname", "", "hostname: busy\nsubdomain: sub\nsetHostnameAsFQDN: true"),
			Steps:   []Step{{Want: []string{"main says busy.sub.<ns>.svc.cluster.local"}}}},
		Row{Name: "hostname-override", Cite: "concepts/workloads/pods/pod-hostname/", Class: Soon,
			Promise: "hostnameOverride is the host name, whatever else is said",
			Spec:    tell("hostname", "", "hostname: busy\nhostnameOverride: over.example.org"),
			Steps:   []Step{{Want: []string{"main says over.example.org"}}}},
	))
}

func newerResources() []Row {
	return area("Resources",
		Row{Name: "resize", Cite: "tasks/configure-pod-container/resize-container-resources/", Class: Periods,
			Promise: "CPU of a running container is changed in place, and the status shows what is in force",
			Spec:    "containers: [{name: main, image: <box>, command: [sleep, '3600'], resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 200m, memory: 32Mi}}}]",
			Steps: []Step{
				{Want: []string{"main running", "field {.status.containerStatuses[0].resources.limits.cpu} is 200m"}},
				{Do: subresource("resize", `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}}]}}`),
					Want: []string{"field {.status.containerStatuses[0].resources.limits.cpu} is 300m", "field {.status.containerStatuses[0].allocatedResources.cpu} is 150m", "main restarts 0"}},
			}},
		Row{Name: "of-the-pod", Cite: "tasks/configure-pod-container/assign-pod-level-resources/", Class: Soon,
			Promise: "resources of the whole pod decide its QoS class, too",
			Spec:    "resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}\ncontainers: [{name: main, image: <box>, command: [sleep, '3600']}]",
			Steps:   []Step{{Want: []string{"main ready", "qos Burstable"}}}},
		Row{Name: "runtime-class", Cite: "concepts/containers/runtime-class/", Class: Soon,
			Promise: "a RuntimeClass chooses the runtime's handler, and adds its overhead to the pod",
			Objects: "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: <name>}\nhandler: runc\noverhead: {podFixed: {cpu: 10m, memory: 4Mi}}\n",
			Spec:    tell("echo ran", "", "runtimeClassName: <name>\noverhead: {cpu: 10m, memory: 4Mi}"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "field {.spec.overhead.cpu} is 10m"}}}},
		Row{Name: "runtime-class-unknown", Cite: "concepts/containers/runtime-class/", Class: Soon,
			Promise: "a handler that the runtime does not have keeps the pod from starting",
			Objects: "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: <name>}\nhandler: none-such\n",
			Spec:    tell("echo ran", "", "runtimeClassName: <name>"),
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting ContainerCreating", "event Warning FailedCreatePodSandBox none-such"}}},
			Never:   []string{"main running"}},
	)
}

func newerVolumes() []Row {
	return area("Volumes",
		Row{Name: "token", Cite: "tasks/configure-pod-container/configure-service-account/#serviceaccount-token-volume-projection", Class: Periods,
			Promise: "a token of the pod's service account, for an audience and a time",
			Spec: tell(`cut -c1-3 /t/token; cut -d. -f2 /t/token | tr '_-' '/+' | base64 -d 2>/dev/null | grep -o '"aud":\["vault"\]'; stat -L -c %a /t/token`, "volumeMounts: [{name: t, mountPath: /t}]",
				"volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 3600}}]}}]"),
			Steps: []Step{{Want: []string{"main says eyJ", `main says "aud":["vault"]`}}}},
		Row{Name: "token-automatic", Cite: "tasks/configure-pod-container/configure-service-account/#opt-out-of-api-credential-automounting", Class: Periods,
			Promise: "unless it opts out, a pod has a token, the cluster's CA and its namespace in a well-known folder",
			Spec:    tell("cd /var/run/secrets/kubernetes.io/serviceaccount; cut -c1-3 token; grep -c BEGIN ca.crt; cat namespace", "", "automountServiceAccountToken: true"),
			Steps:   []Step{{Want: []string{"main says eyJ", "main says 1", "main says <ns>"}}}},
		Row{Name: "image", Cite: "tasks/configure-pod-container/image-volumes/", Class: Soon, Needs: NeedContainerd2,
			Promise: "an image is mounted, read-only, as a volume",
			Spec:    tell("ls /v/bin/busybox; touch /v/x || echo refused", "volumeMounts: [{name: v, mountPath: /v}]", "volumes: [{name: v, image: {reference: <box>, pullPolicy: IfNotPresent}}]"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says /v/bin/busybox", "main says refused"}}}},
		Row{Name: "claim", Cite: "concepts/storage/persistent-volumes/", Class: Periods,
			Promise: "a claim that is bound to a local volume of the node is mounted",
			Objects: `
apiVersion: v1
kind: PersistentVolume
metadata: {name: <name>}
spec:
  capacity: {storage: 1Mi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  local: {path: <dir>}
  claimRef: {namespace: <ns>, name: <name>}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [<node>]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: <name>}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', volumeName: <name>, resources: {requests: {storage: 1Mi}}}`,
			Spec: `
restartPolicy: Never
initContainers: [{name: writes, image: <box>, command: [sh, -c, 'echo kept > /v/x'], volumeMounts: [{name: v, mountPath: /v}]}]
containers: [{name: main, image: <box>, command: [sh, -c, 'exec > /dev/termination-log 2>&1; cat /v/x; touch /v/y || echo refused'], volumeMounts: [{name: v, mountPath: /v, readOnly: true}]}]
volumes: [{name: v, persistentVolumeClaim: {claimName: <name>, readOnly: false}}]`,
			Steps: []Step{{Want: []string{"phase Succeeded", "main says kept", "main says refused"}}}},
	)
}
