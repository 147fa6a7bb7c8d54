package pods

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The sources of what is expected: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
// and, for the limits, resolv.conf(5).
func TestDNSPolicy(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.1\nsearch plant.example. .\noptions rotate ndots:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster := []string{"10.96.0.10"}
	for _, tc := range []struct {
		name, spec    string
		cluster       []string
		nothing       bool
		servers       string
		search        string
		options, note string
	}{
		{name: "cluster first", spec: `"dnsPolicy":"ClusterFirst"`, cluster: cluster, servers: "10.96.0.10",
			search: "default.svc.cluster.local svc.cluster.local cluster.local plant.example", options: "ndots:5"},
		{name: "no policy", spec: `"enableServiceLinks":true`, cluster: cluster, servers: "10.96.0.10",
			search: "default.svc.cluster.local svc.cluster.local cluster.local plant.example", options: "ndots:5"},
		{name: "cluster first on the host's network", spec: `"dnsPolicy":"ClusterFirst","hostNetwork":true`, cluster: cluster, servers: "192.0.2.1", search: "plant.example", options: "rotate ndots:1"},
		{name: "with host network", spec: `"dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true`, cluster: cluster, servers: "10.96.0.10",
			search: "default.svc.cluster.local svc.cluster.local cluster.local plant.example", options: "ndots:5"},
		{name: "default", spec: `"dnsPolicy":"Default"`, cluster: cluster, servers: "192.0.2.1", search: "plant.example", options: "rotate ndots:1"},
		{name: "none", spec: `"dnsPolicy":"None","dnsConfig":{"nameservers":["9.9.9.9"]}`, cluster: cluster, servers: "9.9.9.9"},
		{name: "added", spec: `"dnsConfig":{"nameservers":["9.9.9.9","10.96.0.10"],"searches":["a.example","plant.example"],"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}`,
			cluster: cluster, servers: "10.96.0.10 9.9.9.9", search: "default.svc.cluster.local svc.cluster.local cluster.local plant.example a.example", options: "ndots:2 edns0"},
		{name: "no cluster DNS", spec: `"dnsPolicy":"ClusterFirst"`, servers: "192.0.2.1", search: "plant.example", options: "rotate ndots:1", note: "MissingClusterDNS"},
		{name: "no cluster DNS is missed", spec: `"dnsPolicy":"Default"`, servers: "192.0.2.1", search: "plant.example", options: "rotate ndots:1"},
		{name: "too many servers", spec: `"dnsPolicy":"None","dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]}`, servers: "1.1.1.1 1.1.1.2 1.1.1.3", note: "DNSConfigForming"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := decode(t, `{`+tc.spec+`,"containers":[{"name":"c","image":"app:1"}]}`)
			got, notes, err := dnsConfig(&d.pod, &host{resolvConf: conf, domain: "cluster.local", clusterDNS: tc.cluster})
			if err != nil || got == nil {
				t.Fatalf("%v, %v", got, err)
			}
			if s := strings.Join(got.Servers, " "); s != tc.servers {
				t.Errorf("servers %q, want %q", s, tc.servers)
			}
			if s := strings.Join(got.Searches, " "); s != tc.search {
				t.Errorf("search %q, want %q", s, tc.search)
			}
			if s := strings.Join(got.Options, " "); s != tc.options {
				t.Errorf("options %q, want %q", s, tc.options)
			}
			if (tc.note == "") != (len(notes) == 0) || tc.note != "" && notes[0].reason != tc.note {
				t.Errorf("notes %v, want %q", notes, tc.note)
			}
		})
	}
}

func TestDNSSearchLimits(t *testing.T) {
	long := strings.Repeat("x", 254)
	var names []string
	for range 10 {
		names = append(names, strings.Repeat("y", 250)+string(rune('a'+len(names))))
	}
	d := decode(t, `{"dnsPolicy":"None","dnsConfig":{"nameservers":["9.9.9.9"],"searches":["`+long+`","`+strings.Join(names, `","`)+`"]},"containers":[{"name":"c","image":"app:1"}]}`)
	got, notes, err := dnsConfig(&d.pod, &host{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Searches, names[:8]) { // 8 names of 251 and the spaces between them are 2015 characters
		t.Errorf("%d search domains are left", len(got.Searches))
	}
	if len(notes) != 1 || notes[0].reason != reasonDNSLimit {
		t.Errorf("notes %v", notes)
	}
}

func TestResolverFile(t *testing.T) {
	dir := t.TempDir()
	etc, resolved := filepath.Join(dir, "etc"), filepath.Join(dir, "resolved")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := resolverFile("", etc, resolved); got != etc {
		t.Errorf("no file at all: %s", got)
	}
	write(etc, "nameserver 127.0.0.53\n")
	if got := resolverFile("", etc, resolved); got != etc {
		t.Errorf("a resolver on loopback that is not systemd's: %s", got)
	}
	write(resolved, "nameserver 192.0.2.1\n")
	if got := resolverFile("", etc, resolved); got != resolved {
		t.Errorf("systemd-resolved: %s", got)
	}
	if got := resolverFile("/x", etc, resolved); got != "/x" {
		t.Errorf("configured: %s", got)
	}
	write(etc, "nameserver 127.0.0.53\nnameserver 192.0.2.2\n")
	if got := resolverFile("", etc, resolved); got != etc {
		t.Errorf("another resolver beside it: %s", got)
	}
	if c, notes, err := dnsConfig(&decode(t, `{"containers":[{"name":"c","image":"app:1"}]}`).pod, &host{}); c != nil && resolverFile("", etcResolvConf, resolvedConf) == etcResolvConf || len(notes) != 1 || err != nil {
		t.Errorf("what is left to the runtime: %+v, %v, %v", c, notes, err)
	}
}

// TestMissingClusterDNS: pod and node say so once for each start of a sandbox.
func TestMissingClusterDNS(t *testing.T) {
	simulate(t, func(w *world) {
		w.stop()
		w.o.ClusterDNS = nil
		w.start()
		w.apply(simplePod)
		w.settle(time.Minute)
		var got []string
		w.mu.Lock()
		for _, e := range w.events {
			if e.reason == reasonNoDNS {
				got = append(got, e.ref)
			}
		}
		w.mu.Unlock()
		if len(got) != 2 || !strings.HasPrefix(got[0], "Node/gw-1") || !strings.HasPrefix(got[1], "Pod/web") {
			t.Errorf("events about %q", got)
		}
	})
}
