package pods

import (
	"strings"
	"testing"
)

func TestHostnames(t *testing.T) {
	long := strings.Repeat("x", 60)
	for _, c := range []struct{ spec, kernel, hosts, fails string }{
		{`{}`, "web", "web", ""},
		{`{"hostname":"db"}`, "db", "db", ""},
		{`{"hostname":"db","subdomain":"net"}`, "db", "db.net.default.svc.cluster.local\tdb", ""},
		{`{"hostname":"db","subdomain":"net","setHostnameAsFQDN":true}`, "db.net.default.svc.cluster.local", "db.net.default.svc.cluster.local\tdb", ""},
		{`{"hostname":"db","setHostnameAsFQDN":true}`, "db", "db", ""},
		{`{"hostname":"db","subdomain":"net","hostnameOverride":"a.example.org"}`, "a.example.org", "a.example.org", ""},
		{`{"hostname":"` + long + `","subdomain":"net","setHostnameAsFQDN":true}`, "", long + ".net.default.svc.cluster.local\t" + long, "is too long (64 characters is the max"},
	} {
		d := decode(t, strings.Replace(strings.Replace(c.spec, "}", `,"containers":[{"name":"c","image":"a"}]}`, 1), "{,", "{", 1))
		if d.refused != "" {
			t.Fatalf("%s: %s", c.spec, d.refused)
		}
		kernel, err := kernelHostname(&d.pod, "cluster.local")
		if kernel != c.kernel || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: kernel %q, %v", c.spec, kernel, err)
		}
		if got := hostsNames(&d.pod, "cluster.local"); got != c.hosts {
			t.Errorf("%s: hosts %q", c.spec, got)
		}
	}
}
