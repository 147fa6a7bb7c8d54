package cni

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestUnreadableFileAfterOurs: runtimes read up to our file, and not what comes after it.
func TestUnreadableFileAfterOurs(t *testing.T) {
	bubble(t, func(t *testing.T, g *gateway) {
		k := g.run()
		time.Sleep(10 * time.Second)
		g.expect("alone", "10.254.0.0/22", k)
		g.file("net.d/99-zz-backup.conflist", `{"plugins"`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("with a file that nobody can read", "10.254.0.0/22", k)
		if got := k.Status(); !strings.Contains(got, "99-zz-backup.conflist is not valid JSON") || !strings.Contains(got, "runtimes do not read it") || len(g.warnings) != 1 {
			t.Errorf("status %q, warnings %q", got, g.warnings)
		}
		g.end()
		g.remove("net.d/" + FileName)
		k = g.run()
		time.Sleep(10 * time.Second)
		g.expect("a gateway without a network", "10.254.0.0/22", k)
		g.file("net.d/zzz-flannel.conflist", `{"name":"cbr0","plugins":[{"type":"flannel"}]}`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("a CNI that comes after it", "", k)
	})
}

// TestRangeInUseTurnsOutToBeTaken: a range is compared with the gateway's networks again and again: it may be started without its cable.
func TestRangeInUseTurnsOutToBeTaken(t *testing.T) {
	for from, prepare := range map[string]func(g *gateway){
		"spec.podCIDR":       func(g *gateway) { g.spec(`{"podCIDR":"10.7.0.0/24"}`) },
		"pods.network.cidrs": func(g *gateway) { g.o.Ranges = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/24")} },
	} {
		bubble(t, func(t *testing.T, g *gateway) {
			prepare(g)
			k := g.run()
			time.Sleep(15 * time.Second)
			g.expect("no cable", "10.7.0.0/24", k)
			g.set(func() { g.networks = []Network{{"eth0", netip.MustParsePrefix("10.7.0.0/16")}} })
			time.Sleep(5 * time.Second)
			g.expect("eth0 is up", "10.7.0.0/24", k) // pods have it; the node stays ready
			if got := k.Status(); !strings.Contains(got, ", BUT the pods' addresses 10.7.0.0/24") || !strings.Contains(got, from) || !strings.Contains(got, "eth0") || len(g.warnings) != 1 {
				t.Errorf("status %q, warnings %q", got, g.warnings)
			}
			g.set(func() { g.networks = nil })
			time.Sleep(5 * time.Second)
			g.expect("eth0 is down", "10.7.0.0/24", k)
			if got := k.Status(); got != "skerryd's own, 10.7.0.0/24" {
				t.Errorf("status %q when it is down", got)
			}
		})
	}
}

// TestANewGatewayWaitsForTheClustersCNI: pods that start in our network would stay in it.
func TestANewGatewayWaitsForTheClustersCNI(t *testing.T) {
	awaited := func(g *gateway, complete *bool, pod *string) {
		g.o.Complete = func() bool { g.mu.Lock(); defer g.mu.Unlock(); return *complete }
		g.o.Awaited = func(dir string) string {
			g.mu.Lock()
			defer g.mu.Unlock()
			if dir != g.dir+"/net.d" {
				g.t.Errorf("asked for %s", dir)
			}
			return *pod
		}
	}
	bubble(t, func(_ *testing.T, g *gateway) {
		var complete bool
		var pod string
		awaited(g, &complete, &pod)
		k := g.run()
		time.Sleep(2 * time.Second)
		g.spec(`{"podCIDR":"10.1.0.0/24"}`)
		time.Sleep(time.Second) // Changed would tell at once
		time.Sleep(3 * time.Second)
		g.set(func() { complete, pod = true, "kube-flannel/kube-flannel-x7" })
		time.Sleep(time.Minute)
		g.expect("its pod is there", "", k, "kube-flannel/kube-flannel-x7", g.dir+"/net.d", "waiting up to 5m0s")
		g.file("net.d/10-flannel.conflist", `{"name":"cbr0","plugins":[{"type":"flannel"}]}`, 0o600)
		time.Sleep(5 * time.Second)
		g.expect("the CNI has come", "", k)
	})
	bubble(t, func(_ *testing.T, g *gateway) {
		var complete bool
		var pod string
		awaited(g, &complete, &pod)
		g.spec(`{"podCIDR":"10.1.0.0/24"}`)
		k := g.run()
		g.expect("its node is there", "", k, "waiting 3s for the cluster")
		time.Sleep(3 * time.Second)
		g.expect("no such pod came", "10.1.0.0/24", k)
		g.set(func() { pod = "kube-system/cilium" })
		time.Sleep(time.Minute)
		g.expect("a pod that comes later takes no network away", "10.1.0.0/24", k)
	})
	bubble(t, func(_ *testing.T, g *gateway) {
		complete, pod := true, "kube-system/linkerd-cni" // /etc is in memory, and the pod is one that extends another's configuration
		awaited(g, &complete, &pod)
		g.spec(`{"podCIDR":"10.1.0.0/24"}`)
		k := g.run()
		g.expect("a pod that may bring one", "", k, "kube-system/linkerd-cni")
		time.Sleep(5 * time.Minute)
		g.expect("it has brought none", "10.1.0.0/24", k)
		g.end()
		g.remove("net.d/" + FileName)
		pod = ""
		k = g.run()
		g.expect("a gateway that knows the cluster waits for nothing", "10.1.0.0/24", k)
	})
}
