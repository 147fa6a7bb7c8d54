package pods

import (
	"errors"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/cri"
)

// TestReasonsOfPulls: what containerd 1.6 and CRI-O 1.36 have said, and what the technician is told to do.
func TestReasonsOfPulls(t *testing.T) {
	plant := credentials{list: []credential{{auth: &cri.AuthConfig{}, secret: secretName{Name: "plant"}}, {auth: &cri.AuthConfig{}, secret: secretName{Name: "plant"}}}}
	for _, c := range []struct {
		message, reason, says string
		creds                 credentials
	}{
		{message: `failed to do request: Head "https://r.io/v2/app/manifests/1": x509: certificate signed by unknown authority`, reason: "ErrImagePull", says: "/etc/containerd/certs.d/r.io:5000/hosts.toml, CRI-O: /etc/containers/certs.d/r.io:5000/ca.crt"},
		{message: `x509: certificate has expired or is not yet valid: current time 1970-01-01T00:00:00Z is before 2026`, reason: "ErrImagePull", says: "clock is wrong"},
		{message: `pulling from host r.io:5000 failed with status code [manifests 1]: 401 Unauthorized`, reason: "ErrImagePull", says: "the pod has no credentials for r.io:5000"},
		{message: `pulling from host r.io:5000 failed with status code [manifests 1]: 403 Forbidden`, reason: "ErrImagePull", says: "refused the credentials of plant: correct", creds: plant},
		{message: `401 Unauthorized`, reason: "ErrImagePull", says: "make late", creds: credentials{missing: []string{"late"}}},
		{message: `RegistryUnavailable: pinging container registry r.io:5000: dial tcp 192.0.2.1:5000: connect: connection refused`, reason: "RegistryUnavailable", says: "cannot be reached"},
		{message: `SignatureValidationFailed: Source image rejected: Running image docker://r.io:5000/app:1 is rejected by policy.`, reason: "SignatureValidationFailed"},
		{message: `toomanyrequests: slow down`, reason: "ErrImagePull", says: "limits how much"},
		{message: `http: server gave HTTP response to HTTPS client`, reason: "ErrImagePull", says: "speaks no TLS"},
		{message: `r.io:5000/app:1: not found`, reason: "ErrImagePull"},
	} {
		err := errors.Join(&cri.Error{Method: "PullImage", Code: cri.ErrUnknown, Message: c.message})
		if got := pullReason(c.message); got != c.reason {
			t.Errorf("%s: reason %s", c.message, got)
		}
		got := adviceFor(err, "r.io:5000/app:1", c.creds)
		if (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q", c.message, got)
		}
	}
}
