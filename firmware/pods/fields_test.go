package pods

import (
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
)

// decode decodes a pod's spec as the relay would send it.
func decode(t testing.TB, spec string) *desiredPod {
	t.Helper()
	body, err := canon.FromJSON([]byte(`{"metadata":{"name":"web","namespace":"default","uid":"u1","labels":{"app":"web"},"annotations":{"note":"n"}},"spec":` + spec + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return newFieldTable().decodePod(wire.Object{Key: podKey, Body: body})
}

// TestOrdinaryPod: what an API server makes of an ordinary Deployment must be accepted.
func TestOrdinaryPod(t *testing.T) {
	d := decode(t, `{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["gw-1"]}]}]}}},
	"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"hostNetwork":true,"nodeName":"gw-1","nodeSelector":{"a":"b"},
	"preemptionPolicy":"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},
	"serviceAccount":"default","serviceAccountName":"default","setHostnameAsFQDN":false,"terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"k","operator":"Exists","tolerationSeconds":300}],
	"containers":[{"name":"c","image":"app:1","imagePullPolicy":"IfNotPresent","resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"64Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File",
	"ports":[{"containerPort":80,"hostPort":8080,"protocol":"TCP"}],"resizePolicy":[{"resourceName":"cpu","restartPolicy":"NotRequired"}],
	"readinessProbe":{"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
	"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"},"privileged":false},
	"volumeMounts":[{"name":"v","mountPath":"/v","readOnly":true},{"name":"e","mountPath":"/e"}]}],
	"volumes":[{"name":"v","configMap":{"name":"x","defaultMode":420}},{"name":"e","emptyDir":{}},{"name":"h","hostPath":{"path":"/x","type":""}},
	{"name":"p","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"ns","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}]}`)
	if d.refused != "" {
		t.Fatalf("refused: %s", d.refused)
	}
	if g := d.grace(); g != 30 {
		t.Errorf("grace %d", g)
	}
}

func TestRefusedFields(t *testing.T) {
	const c = `"containers":[{"name":"c","image":"app:1"`
	for want, spec := range map[string]string{
		"lifecycle.stopSignal: \"SIGNONE\" is no signal":                                   `{` + c + `,"lifecycle":{"stopSignal":"SIGNONE"}}]}`,
		"spec.containers[0].lifecycle.preStop.tcpSocket: ":                                 `{` + c + `,"lifecycle":{"preStop":{"tcpSocket":{"port":1}}}}]}`,
		"spec.initContainers[0].restartPolicy: ":                                           `{"initContainers":[{"name":"i","image":"a","restartPolicy":"Sometimes"}],` + c + `}]}`,
		"spec.containers[0].restartPolicyRules[0].action: ":                                `{` + c + `,"restartPolicy":"Never","restartPolicyRules":[{"action":"Pray","exitCodes":{"operator":"In","values":[1]}}]}]}`,
		"spec.volumes[0].csi: CSI volumes":                                                 `{"volumes":[{"name":"v","csi":{"driver":"x"}}],` + c + `}]}`,
		"spec.volumes[0].iscsi: this field is not supported":                               `{"volumes":[{"name":"v","iscsi":{"lun":1}}],` + c + `}]}`,
		"spec.hostUsers: a pod with a user namespace":                                      `{"hostUsers":false,"hostPID":true,` + c + `}]}`,
		"remove spec.hostNetwork, spec.hostIPC":                                            `{"hostUsers":false,"hostNetwork":true,"hostIPC":true,` + c + `}]}`,
		"spec.aFieldOfTomorrow: this field is not supported":                               `{"aFieldOfTomorrow":{"deep":[1]},` + c + `}]}`,
		"spec.containers[0].resources.limits.nvidia.com/gpu: ":                             `{` + c + `,"resources":{"limits":{"nvidia.com/gpu":"1"}}}]}`,
		"spec.volumes[0].hostPath.path: must be absolute":                                  `{"volumes":[{"name":"v","hostPath":{"path":"x"}}],` + c + `}]}`,
		`container "c": volumeMounts names the volume "v"`:                                 `{` + c + `,"volumeMounts":[{"name":"v","mountPath":"/v"}]}]}`,
		`"../x" is used twice or is no name`:                                               `{"volumes":[{"name":"../x","emptyDir":{}}],` + c + `}]}`,
		"spec.containers: a pod needs at least one container":                              `{}`,
		`spec.restartPolicy: "Sometimes" is unknown`:                                       `{"restartPolicy":"Sometimes",` + c + `}]}`,
		"cannot be decoded":                                                                `{` + c + `,"resources":{"limits":{"memory":"much"}}}]}`,
		"spec.containers[0].livenessProbe.httpGet.host: HTTPS requests go only to the pod": `{` + c + `,"livenessProbe":{"httpGet":{"port":1,"scheme":"HTTPS","host":"vault.example.org"}}}]}`,
		"spec.containers[0].lifecycle.preStop.httpGet.host: HTTPS requests go only":        `{` + c + `,"lifecycle":{"preStop":{"httpGet":{"port":1,"scheme":"HTTPS","host":"gw-2"}}}}]}`,
		"spec.initContainers[0].readinessProbe.httpGet.host: HTTPS requests go only":       `{"initContainers":[{"name":"i","image":"a","restartPolicy":"Always","readinessProbe":{"httpGet":{"port":1,"scheme":"HTTPS","host":"a"}}}],` + c + `}]}`,
		"spec.containers[0].livenessProbe.httpGet.scheme: the schemes are":                 `{` + c + `,"livenessProbe":{"httpGet":{"port":1,"scheme":"GOPHER"}}}]}`,
		"spec.containers[0].securityContext.windowsOptions: this gateway":                  `{` + c + `,"securityContext":{"windowsOptions":{"hostProcess":true}}}]}`,
		"securityContext.procMount: Unmasked needs a user namespace":                       `{` + c + `,"securityContext":{"procMount":"Unmasked"}}]}`,
	} {
		if d := decode(t, spec); !strings.Contains(d.refused, want) {
			t.Errorf("%s: refused %q", want, d.refused)
		}
	}
	many := decode(t, `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,`+c+`}]}`)
	if !strings.HasSuffix(many.refused, "and 2 more") {
		t.Errorf("refused %q", many.refused)
	}
}
