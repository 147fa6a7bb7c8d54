package pods

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Every container knows of default/kubernetes, unless its namespace has a Service of that name.
const (
	kubernetesNamespace = "default"
	kubernetesService   = "kubernetes"
)

// serviceVariables returns the variables that describe Services to a pod's containers: those of its namespace if it has
// enableServiceLinks (which is the default), and default/kubernetes. What has not arrived is not there, and nothing waits for it: a pod
// travels with its Services, and a relay of an older release sends none.
func serviceVariables(desired Desired, namespace string, spec *corev1.PodSpec) map[string]string {
	links := spec.EnableServiceLinks == nil || *spec.EnableServiceLinks
	vars := map[string]string{}
	add := func(o wire.Object) {
		var s corev1.Service
		if _, err := s.UnmarshalMsg(o.Body); err == nil && !o.Absent {
			addServiceVariables(vars, o.Key.Name(), &s.Spec)
		}
	}
	own := false
	if links {
		services := desired.List(wire.KindService)
		slices.SortFunc(services, func(a, b wire.Object) int { return strings.Compare(string(a.Key), string(b.Key)) })
		for _, o := range services {
			if o.Key.Namespace() == namespace {
				own = own || o.Key.Name() == kubernetesService
				add(o)
			}
		}
	}
	if !own {
		if o, ok := desired.Get(wire.NewKey(wire.KindService, kubernetesNamespace, kubernetesService, "")); ok {
			add(o)
		}
	}
	return vars
}

// addServiceVariables adds one Service's variables: {NAME}_SERVICE_HOST and its like, and those of Docker's container links
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func addServiceVariables(vars map[string]string, service string, spec *corev1.ServiceSpec) {
	if spec.ClusterIP == "" || spec.ClusterIP == "None" || len(spec.Ports) == 0 {
		return
	}
	name := variableName(service)
	vars[name+"_SERVICE_HOST"] = spec.ClusterIP
	for i, p := range spec.Ports {
		port, protocol := strconv.Itoa(int(p.Port)), p.Protocol
		setDefault(&protocol, "TCP")
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(spec.ClusterIP, port)
		if i == 0 {
			vars[name+"_SERVICE_PORT"] = port
			vars[name+"_PORT"] = url
		}
		if p.Name != "" {
			vars[name+"_SERVICE_PORT_"+variableName(p.Name)] = port
		}
		link := name + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		vars[link] = url
		vars[link+"_PROTO"] = strings.ToLower(protocol)
		vars[link+"_PORT"] = port
		vars[link+"_ADDR"] = spec.ClusterIP
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

// withServices appends the variables of Services that a container does not set itself.
func withServices(env []cri.KeyValue, services map[string]string) []cri.KeyValue {
	set := make(map[string]bool, len(env))
	for _, e := range env {
		set[e.Key] = true
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if !set[name] {
			env = append(env, cri.KeyValue{Key: name, Value: services[name]})
		}
	}
	return env
}
