package conformance

func envRows() []Row {
	const page, downward = "tasks/inject-data-application/define-environment-variable-container/", "tasks/inject-data-application/environment-variable-expose-pod-information/"
	const config = `
apiVersion: v1
kind: ConfigMap
metadata: {name: <name>}
data: {COLOR: blue, SIZE: large}
---
apiVersion: v1
kind: Secret
metadata: {name: <name>}
stringData: {PASSWORD: hunter2}
`
	return area("Env",
		Row{Name: "values", Cite: "tasks/inject-data-application/define-interdependent-environment-variables/", Class: Soon,
			Promise: "$(VAR) stands for a variable defined before; $$(VAR) and an unknown one stay; the same holds in command and args",
			Spec: `
restartPolicy: Never
containers:
- name: main
  image: <box>
  command: [sh, -c, 'exec > /dev/termination-log; env; echo arg=$0', 'is-$(B)-$(NONE)-$$(A)']
  env: [{name: A, value: one}, {name: B, value: 'x$(A)y'}, {name: C, value: '$$(A)'}, {name: D, value: '$(LATER)'}, {name: LATER, value: z}]`,
			Steps: []Step{{Want: []string{"main says A=one", "main says B=xoney", "main says C=$(A)", "main says D=$(LATER)", "main says arg=is-xoney-$(NONE)-$(A)"}}}},
		Row{Name: "references", Cite: "tasks/configure-pod-container/configure-pod-configmap/#define-container-environment-variables-using-configmap-data", Class: Soon, Objects: config,
			Promise: "variables from keys of configMaps and secrets; an optional one that is missing is not set",
			Spec: tell("env", `
env:
- {name: COLOR, valueFrom: {configMapKeyRef: {name: <name>, key: COLOR}}}
- {name: PASSWORD, valueFrom: {secretKeyRef: {name: <name>, key: PASSWORD}}}
- {name: NONE, valueFrom: {configMapKeyRef: {name: <name>, key: none, optional: true}}}
- {name: NEITHER, valueFrom: {secretKeyRef: {name: <name>-none, key: none, optional: true}}}`, ""),
			Steps: []Step{{Want: []string{"main says COLOR=blue", "main says PASSWORD=hunter2", "main lacks NONE", "main lacks NEITHER"}}}},
		Row{Name: "from-all", Cite: "tasks/configure-pod-container/configure-pod-configmap/#configure-all-key-value-pairs-in-a-configmap-as-container-environment-variables", Class: Soon, Objects: config,
			Promise: "envFrom takes all keys, with a prefix; env goes before it",
			Spec: tell("env", `
envFrom: [{prefix: X_, configMapRef: {name: <name>}}, {configMapRef: {name: <name>}}, {secretRef: {name: <name>}}, {configMapRef: {name: <name>-none, optional: true}}]
env: [{name: SIZE, value: small}]`, ""),
			Steps: []Step{{Want: []string{"main says X_COLOR=blue", "main says COLOR=blue", "main says SIZE=small", "main says PASSWORD=hunter2"}}}},
		Row{Name: "missing", Cite: "concepts/configuration/configmap/#configmaps-and-pods", Class: Refresh,
			Promise: "a container whose variable cannot be had does not start (CreateContainerConfigError); it does when the object is there",
			Spec:    tell("env", "env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: <name>, key: COLOR}}}]", ""),
			Steps: []Step{
				{Want: []string{"phase Pending", "main waiting CreateContainerConfigError", "event Warning Failed"}},
				{Do: apply(config), Want: []string{"phase Succeeded", "main says COLOR=blue"}},
			}},
		Row{Name: "missing-key", Cite: "concepts/configuration/secret/#optional-secrets", Class: Soon, Objects: config,
			Promise: "a key that is missing keeps the container from starting",
			Spec:    tell("env", "env: [{name: X, valueFrom: {secretKeyRef: {name: <name>, key: nothing}}}]", ""),
			Steps:   []Step{{Want: []string{"phase Pending", "main waiting CreateContainerConfigError nothing"}}}},
		Row{Name: "fields", Cite: downward + "#use-pod-fields-as-values-for-environment-variables", Class: Soon, Meta: "labels: {tier: edge}\nannotations: {note: hello}",
			Promise: "fields of the pod as variables",
			Spec: tell("env", `
env:
- {name: NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
- {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
- {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
- {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
- {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
- {name: HOSTIP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
- {name: PODIP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: PODIPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}`, ""),
			Steps: []Step{{Want: []string{"main says NAME=<name>", "main says NAMESPACE=<ns>", "main says TIER=edge", "main says NOTE=hello", "main says NODE=<node>", "main says ACCOUNT=default", "main says PODIP=10.", "main says PODIPS=10.", "main lacks HOSTIP=\n"}}}},
		Row{Name: "resources", Cite: downward + "#use-container-fields-as-values-for-environment-variables", Class: Soon,
			Promise: "requests and limits as variables, divided and rounded up; without a limit it is what the node has",
			Spec: `
restartPolicy: Never
containers:
- name: main
  image: <box>
  command: [sh, -c, 'env > /dev/termination-log']
  resources: {requests: {cpu: 125m, memory: 16Mi}, limits: {cpu: 250m, memory: 33Mi}}
  env:
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
  - {name: MILLI, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
  - {name: MEM, valueFrom: {resourceFieldRef: {containerName: main, resource: limits.memory}}}
  - {name: MEMMI, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
- name: free
  image: <box>
  command: [sh, -c, 'test $MEM -gt 100000000 && test $CPU -ge 1']
  env: [{name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory}}}, {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]`,
			Steps: []Step{{Want: []string{"main says CPU=1", "main says MILLI=125", "main says MEM=34603008", "main says MEMMI=16", "free terminated 0 Completed"}}}},
		Row{Name: "image", Cite: page, Class: Soon,
			Promise: "variables of the pod go before those of the image",
			Spec:    "restartPolicy: Never\ncontainers: [{name: main, image: <sample>, args: [env], env: [{name: SAMPLE_VERSION, value: mine}], terminationMessagePolicy: FallbackToLogsOnError}, {name: ends, image: <box>, command: [sh, -c, 'exit 0']}]",
			Steps:   []Step{{Want: []string{"phase Succeeded"}}}},
	)
}
