package pods

import (
	"fmt"
	"strings"

	"github.com/skerry/skerry/firmware/wire/corev1"
)

// maxHostname is the longest name that the kernel takes, in bytes (uname(2), 64 and a final zero); a label has one less (RFC 1123).
const (
	maxHostname = 64
	maxLabel    = 63
)

// podNames returns a pod's host name, and the domain that a subdomain gives it; "" if it has none. hostnameOverride goes before both.
func podNames(pod *corev1.Pod, clusterDomain string) (host, domain string) {
	s := &pod.Spec
	if s.HostnameOverride != nil && *s.HostnameOverride != "" {
		return shortened(*s.HostnameOverride, maxHostname), ""
	}
	host = s.Hostname
	if host == "" {
		host = pod.Metadata.Name
	}
	if s.Subdomain != "" {
		domain = s.Subdomain + "." + pod.Metadata.Namespace + ".svc." + clusterDomain
	}
	return shortened(host, maxLabel), domain
}

func shortened(name string, longest int) string {
	if len(name) > longest {
		name = strings.TrimRight(name[:longest], "-.")
	}
	return name
}

// kernelHostname is what hostname(1) says in the pod: with setHostnameAsFQDN the name with its domain.
func kernelHostname(pod *corev1.Pod, clusterDomain string) (string, error) {
	host, domain := podNames(pod, clusterDomain)
	if domain == "" || !isTrue(pod.Spec.SetHostnameAsFQDN) {
		return host, nil
	}
	full := host + "." + domain
	if len(full) > maxHostname {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested): "+
			"shorten hostname or subdomain, or remove setHostnameAsFQDN", full, maxHostname, len(full))
	}
	return full, nil
}

// hostsNames is how /etc/hosts names the pod: its full name, if it has one, before the short one.
func hostsNames(pod *corev1.Pod, clusterDomain string) string {
	host, domain := podNames(pod, clusterDomain)
	if domain == "" {
		return host
	}
	return host + "." + domain + "\t" + host
}
