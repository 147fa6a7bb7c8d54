package conformance

func resourceRows() []Row {
	const page, qos = "concepts/configuration/manage-resources-containers/", "concepts/workloads/pods/pod-qos/"
	const sleeper = "image: <box>, command: [sleep, '3600']"
	return area("Resources",
		Row{Name: "guaranteed", Cite: qos + "#guaranteed", Class: Soon,
			Promise: "limits of CPU and memory on every container, equal to the requests: Guaranteed, with an OOM score of -997 (of the machine's least, where the agent may not go below it)",
			Spec:    "containers: [{name: main, " + sleeper + ", resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 100m, memory: 32Mi}}}]",
			Steps:   []Step{{Want: []string{"phase Running", "qos Guaranteed"}}}},
		Row{Name: "burstable", Cite: qos + "#burstable", Class: Soon,
			Promise: "some request or limit: Burstable, with an OOM score between 2 and 999",
			Spec:    tell("cat /proc/self/oom_score_adj", "resources: {requests: {memory: 32Mi}}", ""),
			Steps:   []Step{{Want: []string{"qos Burstable", "main says 9", "main lacks 1000"}}}},
		Row{Name: "best-effort", Cite: qos + "#besteffort", Class: Soon,
			Promise: "no requests and no limits: BestEffort, with an OOM score of 1000",
			Spec:    tell("cat /proc/self/oom_score_adj", "", ""),
			Steps:   []Step{{Want: []string{"qos BestEffort", "main says 1000"}}}},
		Row{Name: "memory-limit", Cite: page + "#how-pods-with-resource-limits-are-run", Class: Soon,
			Promise: "a container that takes more memory than its limit is killed: OOMKilled, 137",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <sample>, args: [memhog, '200'], resources: {limits: {memory: 48Mi}}}]",
			Steps:   []Step{{Want: []string{"phase Failed", "main terminated 137 OOMKilled"}}}},
		Row{Name: "cgroup", Cite: page + "#how-pods-with-resource-limits-are-run", Class: Soon,
			Promise: "limits and requests are the container's cgroup settings: quota, shares and memory",
			Spec: tell(`
cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | head -1
cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight 2>/dev/null | head -1
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -1`, "resources: {requests: {cpu: 500m, memory: 16Mi}, limits: {cpu: 750m, memory: 40Mi}}", ""),
			Steps: []Step{{Want: []string{"main says 75000", "main says 512", "main says 41943040"}}}},
		Row{Name: "limit-is-request", Cite: page + "#requests-and-limits", Class: Soon,
			Promise: "a limit without a request is the request, too",
			Spec:    tell("cat /sys/fs/cgroup/cpu/cpu.shares", "resources: {limits: {cpu: 250m, memory: 40Mi}}", ""),
			Steps:   []Step{{Want: []string{"main says 256", "qos Guaranteed"}}}},
		Row{Name: "status", Cite: "reference/kubernetes-api/workload-resources/pod-v1/#PodStatus", Class: Soon,
			Promise: "the status shows the resources that the container has",
			Spec:    "containers: [{name: main, " + sleeper + ", resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {memory: 32Mi}}, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]}]",
			Steps: []Step{{Want: []string{"main running", "field {.status.containerStatuses[0].allocatedResources.cpu} is 100m", "field {.status.containerStatuses[0].resources.limits.memory} is 32Mi",
				"field {.status.containerStatuses[0].resources.requests.memory} is 16Mi"}}}},
		Row{Name: "too-large", Cite: page + "#how-pods-with-resource-requests-are-scheduled", Class: Soon,
			Promise: "a pod that asks for more than the node has is not scheduled there",
			Spec:    "containers: [{name: main, " + sleeper + ", resources: {requests: {cpu: '1000'}}}]",
			Steps:   []Step{{Want: []string{"phase Pending", "condition PodScheduled False Unschedulable", "event Warning FailedScheduling"}}}},
		Row{Name: "extended", Cite: page + "#extended-resources", Class: Soon,
			Promise: "a pod that asks for an extended resource which no node has is not scheduled",
			Spec:    "containers: [{name: main, " + sleeper + ", resources: {requests: {example.com/dongle: '1'}, limits: {example.com/dongle: '1'}}}]",
			Steps:   []Step{{Want: []string{"phase Pending", "condition PodScheduled False Unschedulable"}}}},
	)
}

func imageRows() []Row {
	const page = "concepts/containers/images/"
	return area("Images",
		Row{Name: "not-found", Cite: page + "#imagepullbackoff", Class: BackOff,
			Promise: "an image that cannot be pulled: ErrImagePull, then ImagePullBackOff with a growing delay",
			Spec:    "containers: [{name: main, image: <reg>/none:1}]",
			Steps: []Step{{Want: []string{"phase Pending", "main waiting ErrImagePull", "event Warning Failed", "event Normal Pulling"}},
				{Want: []string{"main waiting ImagePullBackOff Back-off pulling image", "event Normal BackOff"}}}},
		Row{Name: "never", Cite: page + "#image-pull-policy", Class: Soon,
			Promise: "policy Never does not pull: ErrImageNeverPull if the image is not there",
			Spec:    "containers: [{name: main, image: <reg>/absent:1, imagePullPolicy: Never}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting ErrImageNeverPull", "event Warning ErrImageNeverPull"}}},
			Never:   []string{"event Normal Pulling"}},
		Row{Name: "if-not-present", Cite: page + "#image-pull-policy", Class: Soon,
			Promise: "IfNotPresent, the default for a tag, does not pull what is there",
			Spec:    "restartPolicy: Never\ninitContainers: [{name: first, image: <box>, command: ['true']}]\ncontainers: [{name: main, image: <box>, imagePullPolicy: IfNotPresent, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "event Normal Pulled already present on machine"}}}},
		Row{Name: "always", Cite: page + "#image-pull-policy", Class: Soon,
			Promise: "Always asks the registry at each start",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <box>, imagePullPolicy: Always, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "event Normal Pulling", "event Normal Pulled Successfully pulled image"}}}},
		Row{Name: "invalid", Cite: page + "#image-names", Class: Soon,
			Promise: "an image name that is none: InvalidImageName",
			Spec:    "containers: [{name: main, image: 'Not A Name'}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting InvalidImageName", "event Warning InspectFailed"}}}},
		Row{Name: "digest", Cite: page + "#image-names", Class: Soon,
			Promise: "a digest names exactly one image, whatever becomes of tags",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: '<reg>/box@<digest>', command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "field {.status.containerStatuses[0].imageID} has <digest>"}}}},
		Row{Name: "pull-secret", Cite: page + "#specifying-imagepullsecrets-on-a-pod", Class: Soon,
			Promise: "imagePullSecrets open a private registry",
			Objects: "apiVersion: v1\nkind: Secret\nmetadata: {name: <name>}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{\"auths\":{\"<private>\":{\"username\":\"edge\",\"password\":\"s3cret\"}}}'}\n",
			Spec:    "restartPolicy: Never\nimagePullSecrets: [{name: <name>}]\ncontainers: [{name: main, image: '<private>/box:1', imagePullPolicy: Always, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded", "event Normal Pulled"}}}},
		Row{Name: "no-pull-secret", Cite: page + "#using-a-private-registry", Class: Soon,
			Promise: "a private registry without credentials refuses",
			Spec:    "containers: [{name: main, image: '<private>/box:1', imagePullPolicy: Always, command: ['true']}]",
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting ErrImagePull", "event Warning Failed"}}}},
	)
}

func networkRows() []Row {
	const dns = "concepts/services-networking/dns-pod-service/"
	return area("Networking",
		Row{Name: "pod-ip", Cite: "concepts/services-networking/#the-kubernetes-network-model", Class: Soon,
			Promise: "a pod has an address of its own, its containers share it, and its status shows it",
			Spec: `
restartPolicy: Never
containers:
- {name: main, image: <box>, command: [sh, -c, 'until wget -q -O /dev/termination-log http://$IP:8080/healthz; do sleep 0.2; done'], env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}
- {name: serves, image: <sample>, args: [serve]}`,
			Steps: []Step{{Want: []string{"main terminated 0 Completed", "main says ok", "field {.status.podIP} has 10.", "field {.status.podIPs[0].ip} has 10.", "field {.status.hostIP} set"}},
				{Do: del("1"), Want: []string{"gone"}}}},
		Row{Name: "host-network", Cite: "concepts/workloads/pods/pod-hostname/", Class: Soon,
			Promise: "hostNetwork: the pod's address and host name are the node's",
			Spec:    tell("hostname; wget -q -O - http://127.0.0.1:<regport>/v2/ && echo reached", "", "hostNetwork: true"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says reached", "field {.spec.hostNetwork} is true"}}}},
		Row{Name: "host-port", Cite: "concepts/configuration/overview/#services", Class: Soon,
			Promise: "a hostPort reaches the container from the node",
			Spec: `
containers:
- {name: main, image: <sample>, ports: [{name: web, containerPort: 8080, hostPort: 18088, hostIP: 0.0.0.0, protocol: TCP}], readinessProbe: {httpGet: {host: <nodeip>, port: 18088, path: /healthz}, periodSeconds: 1}}`,
			Steps: []Step{{Want: []string{"main ready"}}}},
		Row{Name: "dns-none", Cite: dns + "#pod-dns-config", Class: Soon,
			Promise: "dnsPolicy None: resolv.conf is what dnsConfig says",
			Spec:    tell("cat /etc/resolv.conf", "", "dnsPolicy: None\ndnsConfig: {nameservers: [192.0.2.1], searches: [ns1.svc.example], options: [{name: ndots, value: '2'}, {name: edns0}]}"),
			Steps:   []Step{{Want: []string{"main says nameserver 192.0.2.1", "main says search ns1.svc.example", "main says options ndots:2 edns0"}}}},
		Row{Name: "dns-default", Cite: dns + "#pod-s-dns-policy", Class: Soon,
			Promise: "dnsPolicy Default: the node's own resolver; dnsConfig is added",
			Spec:    tell("cat /etc/resolv.conf", "", "dnsPolicy: Default\ndnsConfig: {searches: [more.example]}"),
			Steps:   []Step{{Want: []string{"main says nameserver", "main says more.example"}}}},
		Row{Name: "host-aliases", Cite: "tasks/network/customize-hosts-file-for-pods/#adding-additional-entries-with-hostaliases", Class: Soon,
			Promise: "hostAliases are in /etc/hosts, beside the pod's own name",
			Spec:    tell("cat /etc/hosts", "", "hostAliases: [{ip: 192.0.2.7, hostnames: [foo.local, bar.local]}]"),
			Steps:   []Step{{Want: []string{"main says 192.0.2.7\tfoo.local\tbar.local", "main says <name>", "main says localhost"}}}},
		Row{Name: "hostname", Cite: "concepts/workloads/pods/pod-hostname/", Class: Soon,
			Promise: "hostname and subdomain are the pod's name, and its full name in /etc/hosts",
			Spec:    tell("hostname; cat /etc/hosts", "", "hostname: busy\nsubdomain: sub"),
			Steps:   []Step{{Want: []string{"main says busy", "main says busy.sub.<ns>.svc.cluster.local"}}}},
		Row{Name: "hostname-default", Cite: "concepts/workloads/pods/pod-hostname/#default-pod-hostname", Class: Soon,
			Promise: "without hostname it is the pod's name",
			Spec:    tell("hostname", "", ""),
			Steps:   []Step{{Want: []string{"main says <name>"}}}},
		Row{Name: "host-pid", Cite: "concepts/security/pod-security-standards/#baseline", Class: Soon,
			Promise: "hostPID: the node's processes are visible; hostIPC: its System V IPC",
			Spec:    tell("ps | grep -q containerd && readlink /proc/self/ns/ipc", "securityContext: {privileged: true}", "hostPID: true\nhostIPC: true"),
			Steps:   []Step{{Want: []string{"phase Succeeded", "main says <ipc>"}}}},
		Row{Name: "share-pid", Cite: "tasks/configure-pod-container/share-process-namespace/", Class: Soon,
			Promise: "shareProcessNamespace: containers see each other's processes, and the first is the sandbox's",
			Spec: `
restartPolicy: Never
shareProcessNamespace: true
containers:
- {name: main, image: <box>, command: [sh, -c, 'until ps | grep -v grep | grep -q "sleep 77"; do sleep 0.1; done; cat /proc/1/cmdline > /dev/termination-log']}
- {name: other, image: <box>, command: [sleep, '77']}`,
			Steps: []Step{{Want: []string{"main terminated 0 Completed", "main says pause"}}, {Do: del("1"), Want: []string{"gone"}}}},
		Row{Name: "own-pid", Cite: "tasks/configure-pod-container/share-process-namespace/", Class: Soon,
			Promise: "otherwise each container has processes of its own, and its command is the first",
			Spec:    tell("tr '\\0' ' ' < /proc/1/cmdline", "", ""),
			Steps:   []Step{{Want: []string{"main says sh -c exec"}}}},
	)
}
