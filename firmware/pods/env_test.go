package pods

import (
	"errors"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "1", "B": "$(A)"}
	lookup := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	for in, want := range map[string]string{
		"": "", "$": "$", "$$": "$", "$(A)": "1", "x$(A)y$(A)": "x1y1", "$$(A)": "$(A)", "$(NO)": "$(NO)", "$(A": "$(A",
		"$(B)": "$(A)", "$A": "$A", "$()": "$()", "$$$(A)": "$1", "a$": "a$", "$(A)$": "1$",
	} {
		if got := expand(in, lookup); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func testRefs(t *testing.T) references {
	t.Helper()
	d := &fakeDesired{objects: map[wire.Key]wire.Object{}}
	for key, doc := range map[wire.Key]string{
		"configmaps/default/c": `{"data":{"a":"1","b":"2","no=name":"x"},"binaryData":{"bin":"//4="}}`,
		"secrets/default/s":    `{"data":{"p":"cHc="}}`,
	} {
		body, err := canon.FromJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		d.put(wire.Object{Key: key, Body: body})
	}
	d.put(wire.Object{Key: "configmaps/default/none", Absent: true, Revision: 12})
	return references{desired: d, namespace: "default"}
}

func TestEnvironment(t *testing.T) {
	d := decode(t, `{"serviceAccountName":"sa","containers":[{"name":"c","image":"app:1","resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"250m"}},
	"envFrom":[{"prefix":"P_","configMapRef":{"name":"c"}},{"secretRef":{"name":"s"}},{"configMapRef":{"name":"none","optional":true}}],
	"env":[{"name":"p","value":"over $(P_a)"},{"name":"SEC","valueFrom":{"secretKeyRef":{"name":"s","key":"p"}}},
	{"name":"OPT","valueFrom":{"configMapKeyRef":{"name":"c","key":"zz","optional":true}}},
	{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},{"name":"L","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}},
	{"name":"AN","valueFrom":{"fieldRef":{"fieldPath":"metadata.annotations['note']"}}},{"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}},
	{"name":"HOST","valueFrom":{"fieldRef":{"fieldPath":"status.hostIP"}}},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},{"name":"SA","valueFrom":{"fieldRef":{"fieldPath":"spec.serviceAccountName"}}},
	{"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},{"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"requests.cpu","divisor":"1m"}}},
	{"name":"CPUS","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}}]}]}`)
	if d.refused != "" {
		t.Fatal(d.refused)
	}
	f := &facts{pod: &d.pod, node: "gw-1", hostIPs: []string{"192.0.2.7"}, podIPs: []string{"10.0.0.5", "fd00::5"}, allocatable: corev1.ResourceList{"cpu": "4"}}
	env, err := environment(&d.pod.Spec.Containers[0], testRefs(t), f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range env {
		got[e.Key] = e.Value
	}
	for k, want := range map[string]string{
		"P_a": "1", "P_b": "2", "P_bin": "\xff\xfe", "p": "over 1", "SEC": "pw", "N": "web", "L": "web", "AN": "n", "IP": "10.0.0.5", "HOST": "192.0.2.7",
		"NODE": "gw-1", "SA": "sa", "MEM": "64", "CPU": "250", "CPUS": "4",
	} {
		if got[k] != want {
			t.Errorf("%s = %q, want %q", k, got[k], want)
		}
	}
	if _, ok := got["OPT"]; ok || len(got) != 15 {
		t.Errorf("variables %v", got)
	}
	if words := expandAll([]string{"$(P_a)", "$(x)"}, env); words[0] != "1" || words[1] != "$(x)" {
		t.Errorf("words %v", words)
	}
}

func TestEnvironmentFails(t *testing.T) {
	for want, env := range map[string]string{
		`configmap "none" not found as of revision 12`: `{"configMapKeyRef":{"name":"none","key":"a"}}`,
		`has not arrived at this node yet`:             `{"secretKeyRef":{"name":"later","key":"a","optional":true}}`,
		`couldn't find key "zz" in configmap "c"`:      `{"configMapKeyRef":{"name":"c","key":"zz"}}`,
		`fieldRef "status.phase" is unknown`:           `{"fieldRef":{"fieldPath":"status.phase"}}`,
		`the pod has no container "no"`:                `{"resourceFieldRef":{"resource":"limits.cpu","containerName":"no"}}`,
	} {
		d := decode(t, `{"containers":[{"name":"c","image":"app:1","env":[{"name":"X","valueFrom":`+env+`}]}]}`)
		_, err := environment(&d.pod.Spec.Containers[0], testRefs(t), &facts{pod: &d.pod})
		if w, ok := errors.AsType[*waitError](err); !ok || w.reason != reasonConfigError || !strings.Contains(w.message, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestResources(t *testing.T) {
	for _, c := range []struct {
		resources, qos     string
		shares, quota, mem int64
		oomLow, oomHigh    int64
	}{
		{`{}`, qosBestEffort, 2, 0, 0, 1000, 1000},
		{`{"limits":{"cpu":"500m","memory":"64Mi"}}`, qosGuaranteed, 512, 50000, 64 << 20, -997, -997},
		{`{"limits":{"cpu":"1","memory":"64Mi"},"requests":{"cpu":"100m","memory":"32Mi"}}`, qosBurstable, 102, 100000, 64 << 20, 900, 999},
		{`{"requests":{"memory":"1Gi"}}`, qosBurstable, 2, 0, 0, 3, 10},
		{`{"limits":{"cpu":"1m"}}`, qosBurstable, 2, 1000, 0, 999, 999},
	} {
		d := decode(t, `{"containers":[{"name":"c","image":"app:1","resources":`+c.resources+`}]}`)
		r := containerResources(&d.pod.Spec, &d.pod.Spec.Containers[0], &host{memory: 1 << 30, oomFloor: -1000})
		if qosClass(&d.pod.Spec) != c.qos || r.CPUShares != c.shares || r.CPUQuota != c.quota || r.MemoryLimitInBytes != c.mem || r.OOMScoreAdj < c.oomLow || r.OOMScoreAdj > c.oomHigh {
			t.Errorf("%s: %s %+v", c.resources, qosClass(&d.pod.Spec), r)
		}
	}
	if got := podCgroup("/skerry", "a-b", false); got != "/skerry/poda-b" {
		t.Error(got)
	}
	if got := podCgroup("/skerry", "a-b", true); got != "skerry-poda_b.slice" {
		t.Error(got)
	}
}

func TestContainerConfig(t *testing.T) {
	d := decode(t, `{"hostname":"h","securityContext":{"runAsUser":1000,"fsGroup":7,"supplementalGroups":[5],"runAsNonRoot":true},
	"containers":[{"name":"c","image":"app:1","command":["a"],"args":["$(X)"],"workingDir":"/w","securityContext":{"runAsGroup":3,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"add":["CAP_NET_ADMIN"],"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}}]}`)
	l := &launch{pod: &d.pod, container: &d.pod.Spec.Containers[0], restarts: 4, imageRef: "id", image: &cri.Image{}, env: []cri.KeyValue{{Key: "X", Value: "y"}},
		hosts: "/hosts", termFile: "/term", host: &host{node: "gw-1"}}
	cfg, err := l.config()
	if err != nil {
		t.Fatal(err)
	}
	sc := cfg.Linux.SecurityContext
	if *sc.RunAsUser != 1000 || *sc.RunAsGroup != 3 || !sc.NoNewPrivs || !sc.ReadonlyRootfs || len(sc.SupplementalGroups) != 2 || sc.Capabilities.AddCapabilities[0] != "NET_ADMIN" ||
		sc.Seccomp.ProfileType != cri.ProfileRuntimeDefault || sc.NamespaceOptions.PID != cri.NamespaceContainer || len(sc.MaskedPaths) == 0 {
		t.Errorf("security %+v", sc)
	}
	if cfg.Args[0] != "y" || cfg.LogPath != "c/4.log" || cfg.Metadata.Attempt != 4 || len(cfg.Mounts) != 2 || cfg.Labels[labelNode] != "gw-1" || cfg.Annotations[annoRestarts] != "4" {
		t.Errorf("config %+v", cfg)
	}
	l.container.SecurityContext.RunAsUser = new(int64)
	if _, err := l.config(); err == nil || !strings.Contains(err.Error(), "runAsNonRoot") {
		t.Errorf("root was accepted: %v", err)
	}
}

func TestSandboxConfig(t *testing.T) {
	d := decode(t, `{"dnsConfig":{"nameservers":["9.9.9.9"],"options":[{"name":"ndots","value":"2"}]},"dnsPolicy":"None","hostAliases":[{"ip":"10.1.1.1","hostnames":["a","b"]}],
	"containers":[{"name":"c","image":"app:1","ports":[{"containerPort":80,"hostPort":8080},{"containerPort":53,"protocol":"UDP"}]}]}`)
	h := &host{node: "gw-1", logDir: "/logs", cgroup: "/skerry"}
	c, err := sandboxConfig(&d.pod, 2, h)
	if err != nil {
		t.Fatal(err)
	}
	if c.Hostname != "web" || c.LogDirectory != "/logs/default_web_u1" || c.PortMappings[0].HostPort != 8080 || c.PortMappings[1].Protocol != cri.ProtocolUDP ||
		c.DNSConfig.Servers[0] != "9.9.9.9" || c.DNSConfig.Options[0] != "ndots:2" || c.Linux.CgroupParent != "/skerry/podu1" || c.Labels["app"] != "web" || c.Metadata.Attempt != 2 {
		t.Errorf("config %+v", c)
	}
	if text := string(hostsFile(&d.pod, []string{"10.0.0.5"}, "cluster.local")); !strings.Contains(text, "10.0.0.5\tweb\n") || !strings.Contains(text, "10.1.1.1\ta\tb\n") {
		t.Errorf("hosts %s", text)
	}
	d.pod.Spec.HostNetwork = true
	if c, err = sandboxConfig(&d.pod, 0, h); err != nil || c.Hostname != "" || c.PortMappings != nil || c.Linux.SecurityContext.NamespaceOptions.Network != cri.NamespaceNode {
		t.Errorf("config %+v, %v", c, err)
	}
	dns := parseResolvConf([]byte("# x\nnameserver 1.1.1.1\nsearch a b\noptions ndots:5 rotate\nnameserver\n"))
	if len(dns.Servers) != 1 || len(dns.Searches) != 2 || len(dns.Options) != 2 {
		t.Errorf("resolver %+v", dns)
	}
}

func TestImageNames(t *testing.T) {
	for image, want := range map[string]string{
		"app": pullAlways, "app:latest": pullAlways, "app:1": pullIfNotPresent, "r:5000/app": pullAlways, "r:5000/app:2": pullIfNotPresent, "app@sha256:00": pullIfNotPresent,
	} {
		if got := defaultPullPolicy(image); got != want {
			t.Errorf("%s: %s", image, got)
		}
	}
}
