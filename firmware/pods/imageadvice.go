package pods

import (
	"slices"
	"strings"

	"github.com/skerry/skerry/firmware/images"
)

// pullReason is the waiting reason for what the runtime says of a pull that failed: some runtimes begin with one of CRI's own words for it
// (https://pkg.go.dev/k8s.io/cri-api/pkg/errors).
func pullReason(message string) string {
	for _, reason := range []string{"RegistryUnavailable", "SignatureValidationFailed"} {
		if strings.HasPrefix(message, reason) {
			return reason
		}
	}
	return "ErrImagePull"
}

// advice is what to do about a pull that failed with one of these words. HOST stands for the registry.
type advice struct {
	words []string
	text  string
}

func pullAdvice() []advice {
	return []advice{
		{[]string{"x509: certificate signed by unknown authority", "x509: certificate relies on legacy Common Name", "x509: cannot validate certificate"},
			"the container runtime does not trust the certificate of HOST: give it the registry's CA (containerd: /etc/containerd/certs.d/HOST/hosts.toml, CRI-O: /etc/containers/certs.d/HOST/ca.crt)"},
		{[]string{"x509: certificate is valid for", "x509: certificate is not valid for"}, "the certificate of HOST is for another name: correct the certificate, or the image's name"},
		{[]string{"x509: certificate has expired or is not yet valid"}, "the certificate of HOST has expired, or this gateway's clock is wrong (see date)"},
		{[]string{"server gave HTTP response to HTTPS client"}, "HOST speaks no TLS: give it a certificate, or tell the container runtime in /etc/containerd/certs.d/HOST/hosts.toml (server = \"http://HOST\")"},
		{[]string{"429 Too Many Requests", "toomanyrequests"}, "HOST limits how much may be pulled: it is tried again later"},
		{[]string{"dial tcp", "no such host", "i/o timeout", "connection refused", "network is unreachable"}, "HOST, or what gives out tokens for it, cannot be reached from this gateway: check its network and the name of the image"},
	}
}

// refusals are words of registries that want other credentials.
func refusals() []string {
	return []string{"401 Unauthorized", "403 Forbidden", "authorization failed", "unauthorized", "no basic auth credentials", "insufficient_scope", "access to the resource is denied"}
}

// adviceFor says what to do about a pull that failed; empty if the error says it all.
func adviceFor(err error, image string, creds credentials) string {
	ref, bad := images.ParseReference(image)
	if bad != nil {
		return ""
	}
	text := err.Error()
	has := func(word string) bool { return strings.Contains(text, word) }
	for _, a := range pullAdvice() {
		if slices.ContainsFunc(a.words, has) {
			return ": " + strings.ReplaceAll(a.text, "HOST", ref.Registry)
		}
	}
	if !slices.ContainsFunc(refusals(), has) {
		return ""
	}
	var names []string
	for _, c := range creds.list {
		if c.secret.Name != "" && !slices.Contains(names, c.secret.Name) {
			names = append(names, c.secret.Name)
		}
	}
	switch {
	case len(names) > 0:
		return ": " + ref.Registry + " refused the credentials of " + strings.Join(names, ", ") + ": correct them (imagePullSecrets)"
	case len(creds.missing) > 0:
		return ": the pod's imagePullSecrets do not exist: make " + strings.Join(creds.missing, ", ")
	default:
		return ": the pod has no credentials for " + ref.Registry + ": give it an imagePullSecret that names this registry"
	}
}
