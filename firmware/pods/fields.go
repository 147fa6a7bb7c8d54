package pods

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// rule says what becomes of one field of a pod. The zero rule refuses it.
type rule struct {
	any    bool   // accepted with all that is below it
	only   []any  // accepted with one of these values
	remedy string // why it is refused, and what to do instead
}

// fieldTable lists every field of a pod's spec that is accepted, by path; list indexes are written "[]". Fields that are not
// in it are refused by name, so that a field that a later Kubernetes adds cannot be ignored silently.
type fieldTable struct {
	rules  map[string]rule
	inside map[string]bool // paths that have rules below them
}

func newFieldTable() *fieldTable {
	t := &fieldTable{rules: map[string]rule{}, inside: map[string]bool{}}
	t.podFields()
	t.volumeFields()
	t.containerFields("spec.containers[].")
	t.containerFields("spec.initContainers[].")
	t.containerFields("spec.ephemeralContainers[].")
	t.any("spec.ephemeralContainers[].", "targetContainerName")
	for _, probe := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
		t.probeFields("spec.containers[]." + probe + ".")
		t.probeFields("spec.initContainers[]." + probe + ".") // the API server lets only sidecars have them
	}
	for path := range t.rules {
		for i, c := range path {
			switch c {
			case '.', '[':
				t.inside[path[:i]] = true
			case ']':
				t.inside[path[:i+1]] = true
			}
		}
	}
	return t
}

func (t *fieldTable) any(prefix string, names ...string) {
	for _, n := range names {
		t.rules[prefix+n] = rule{any: true}
	}
}

func (t *fieldTable) only(path, remedy string, values ...any) {
	t.rules[path] = rule{only: values, remedy: remedy}
}

func (t *fieldTable) refuse(path, remedy string) { t.rules[path] = rule{remedy: remedy} }

func (t *fieldTable) podFields() {
	t.any("spec.", "activeDeadlineSeconds", "automountServiceAccountToken", "dnsConfig", "dnsPolicy", "hostAliases", "hostIPC", "hostNetwork",
		"hostPID", "hostname", "hostnameOverride", "setHostnameAsFQDN", "imagePullSecrets", "nodeName", "restartPolicy", "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds")
	// What only matters before a pod is bound to its node, or only to the API server.
	t.any("spec.", "affinity", "enableServiceLinks", "nodeSelector", "preemptionPolicy", "priority", "priorityClassName", "schedulerName", "schedulingGates",
		"serviceAccount", "serviceAccountName", "tolerations", "topologySpreadConstraints")
	t.only("spec.os.name", "pods of other systems than Linux cannot run here", "linux")
	t.only("spec.hostUsers", "must be true or false", true, false)
	t.any("spec.", "runtimeClassName", "overhead")
	t.any("spec.", "readinessGates[].conditionType")
	t.resourceFields("spec.resources.")
	t.refuse("spec.resourceClaims", "dynamic resource allocation is not supported: remove the field")
	const sc = "spec.securityContext."
	t.any(sc, "fsGroup", "runAsGroup", "runAsNonRoot", "runAsUser", "supplementalGroups", "fsGroupChangePolicy")
	t.only(sc+"supplementalGroupsPolicy", "allowed are Merge and Strict", "Merge", "Strict")
	t.any(sc+"seccompProfile.", "type", "localhostProfile")
	t.any(sc+"sysctls[].", "name", "value")
	t.securityFields(sc)
}

func (t *fieldTable) volumeFields() {
	const v = "spec.volumes[]."
	t.any(v, "name", "configMap", "secret", "hostPath")
	t.only(v+"emptyDir.medium", "supported media are \"\" and Memory", "", "Memory")
	t.any(v, "emptyDir.sizeLimit")
	t.any(v+"projected.", "defaultMode", "sources[].configMap", "sources[].secret")
	t.downwardFields(v + "projected.sources[].downwardAPI.")
	t.downwardFields(v + "downwardAPI.")
	t.any(v, "downwardAPI.defaultMode")
	t.any(v+"projected.sources[].serviceAccountToken.", "audience", "expirationSeconds", "path")
	t.refuse(v+"projected.sources[].clusterTrustBundle", "cluster trust bundles are not supported yet: use a configMap")
	t.refuse(v+"projected.sources[].podCertificate", "pod certificates are not supported yet: use a secret")
	t.any(v, "persistentVolumeClaim.claimName", "persistentVolumeClaim.readOnly", "ephemeral.volumeClaimTemplate")
	t.refuse(v+"csi", "CSI volumes are not supported at the edge: use a local persistentVolume, hostPath, emptyDir, configMap or secret")
	t.refuse(v+"nfs", "NFS volumes are not supported: mount it on the gateway and use hostPath")
	t.any(v, "image.reference", "image.pullPolicy")
}

func (t *fieldTable) downwardFields(prefix string) {
	t.any(prefix+"items[].", "path", "mode", "fieldRef.apiVersion", "fieldRef.fieldPath",
		"resourceFieldRef.containerName", "resourceFieldRef.divisor", "resourceFieldRef.resource")
}

func (t *fieldTable) containerFields(c string) {
	t.any(c, "name", "image", "command", "args", "workingDir", "imagePullPolicy", "stdin", "stdinOnce", "tty", "terminationMessagePath",
		"terminationMessagePolicy", "resizePolicy")
	t.only(c+"restartPolicy", "a container's restartPolicy is one of these", restartAlways, restartOnFailure, restartNever)
	t.only(c+"restartPolicyRules[].action", "the actions of restart rules are these", actionRestart, actionRestartAll)
	t.only(c+"restartPolicyRules[].exitCodes.operator", "exit codes are compared with these", "In", "NotIn")
	t.any(c, "restartPolicyRules[].exitCodes.values")
	t.any(c+"env[].", "name", "value", "valueFrom.configMapKeyRef", "valueFrom.secretKeyRef", "valueFrom.fieldRef", "valueFrom.resourceFieldRef")
	t.any(c+"envFrom[].", "prefix", "configMapRef", "secretRef")
	t.any(c+"ports[].", "name", "containerPort", "hostPort", "hostIP", "protocol")
	t.resourceFields(c + "resources.")
	t.any(c, "resources.limits.ephemeral-storage")
	t.any(c+"volumeMounts[].", "name", "mountPath", "readOnly", "mountPropagation", "subPath", "subPathExpr")
	t.only(c+"volumeMounts[].recursiveReadOnly", "the modes are these", rroDisabled, rroIfPossible, rroEnabled)
	t.refuse(c+"volumeDevices", "raw block volumes are not supported: use hostPath of type BlockDevice, or a claim with volumeMode Filesystem")
	for _, hook := range []string{"lifecycle.postStart.", "lifecycle.preStop."} {
		t.any(c+hook, "exec.command", "sleep.seconds")
		t.httpFields(c + hook)
		t.refuse(c+hook+"tcpSocket", "hooks of this kind do nothing in Kubernetes either: use exec, httpGet or sleep")
	}
	t.any(c, "lifecycle.stopSignal")
	sc := c + "securityContext."
	t.any(sc, "allowPrivilegeEscalation", "capabilities.add", "capabilities.drop", "privileged", "readOnlyRootFilesystem", "runAsGroup",
		"runAsNonRoot", "runAsUser", "seccompProfile.type", "seccompProfile.localhostProfile")
	t.only(sc+"procMount", "allowed are Default and Unmasked", "Default", procUnmasked)
	t.securityFields(sc)
}

// securityFields are those of a pod's and of a container's security context.
func (t *fieldTable) securityFields(sc string) {
	t.any(sc, "appArmorProfile.localhostProfile", "seLinuxOptions.level", "seLinuxOptions.role", "seLinuxOptions.type", "seLinuxOptions.user")
	t.only(sc+"appArmorProfile.type", "allowed are RuntimeDefault, Localhost and Unconfined", "RuntimeDefault", "Localhost", "Unconfined")
	t.refuse(sc+"windowsOptions", "this gateway runs Linux containers only: remove the field")
}

// resourceFields are those of a container or of a pod as a whole. Limits of other resources are refused one by one.
func (t *fieldTable) resourceFields(r string) {
	t.any(r, "requests", "limits.cpu", "limits.memory")                                           // what the node has not is admission's business
	for _, size := range []string{"64Ki", "1Mi", "2Mi", "16Mi", "32Mi", "512Mi", "1Gi", "16Gi"} { // those that kernels know
		t.any(r, "limits."+hugepagesPrefix+size)
	}
}

func (t *fieldTable) probeFields(p string) {
	t.any(p, "failureThreshold", "initialDelaySeconds", "periodSeconds", "successThreshold", "timeoutSeconds", "terminationGracePeriodSeconds",
		"exec.command", "tcpSocket.port", "tcpSocket.host")
	t.httpFields(p)
	t.any(p+"grpc.", "port", "service")
}

// httpFields are those of a request that a probe or a hook makes. Where HTTPS may go is judged beside the table (unproven.go).
func (t *fieldTable) httpFields(p string) {
	t.any(p+"httpGet.", "path", "port", "host", "httpHeaders[].name", "httpHeaders[].value")
	t.only(p+"httpGet.scheme", "the schemes are HTTP and HTTPS", "HTTP", "HTTPS")
}

// verdict is what is refused of a pod's spec, each with path and remedy, in order of paths. What is refused of an ephemeral container
// stands apart: it comes to a pod that runs, which must not be stopped for it.
type verdict struct {
	refused []string
	barred  map[int][]string // by the ephemeral container's index
}

// refuse adds a refusal.
func (v *verdict) refuse(path, remedy string) {
	text := path + ": " + remedy
	if rest, ok := strings.CutPrefix(path, "spec.ephemeralContainers["); ok {
		number, _, _ := strings.Cut(rest, "]")
		if i, err := strconv.Atoi(number); err == nil {
			if v.barred == nil {
				v.barred = map[int][]string{}
			}
			v.barred[i] = append(v.barred[i], text)
			return
		}
	}
	v.refused = append(v.refused, text)
}

// check judges a pod's spec, as package canon decodes it.
func (t *fieldTable) check(spec any) verdict {
	var v verdict
	t.walk("spec", "spec", spec, &v)
	return v
}

// walk visits one value. path has list indexes, pattern has "[]" in their place.
func (t *fieldTable) walk(path, pattern string, v any, out *verdict) {
	if noEffect(v) {
		return
	}
	if r, ok := t.rules[pattern]; ok {
		if !r.any && !slices.Contains(r.only, v) {
			out.refuse(path, r.remedy)
		}
		return
	}
	if v == false {
		return // what Kubernetes adds is off by default
	}
	if !t.inside[pattern] {
		out.refuse(path, "this field is not supported: remove it")
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			t.walk(path+"."+k, pattern+"."+k, v[k], out)
		}
	case []any:
		for i, e := range v {
			t.walk(fmt.Sprintf("%s[%d]", path, i), pattern+"[]", e, out)
		}
	default:
		out.refuse(path, "must be an object or a list")
	}
}

// noEffect reports whether a value is the same as no value at all.
func noEffect(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		return false
	}
}

// joinSome joins the first of a list into one message.
func joinSome(list []string) string {
	const most = 5
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(list, "; ")
}
