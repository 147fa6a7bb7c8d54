package kubelet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TestAllotmentsAgree has relays give ports to nodes at the same time, each from what it saw a while ago, and wants them to come to one answer
// in which no port is two nodes', and no port that was once settled is ever another's.
func TestAllotmentsAgree(t *testing.T) {
	const first, last, nodes = 20000, 20149, 140
	recorded := map[string]int{}
	relayOf := func(node string) int { return len(node) % 2 }
	for i := range nodes {
		recorded[strings.Repeat("n", i%2+1)+fmt.Sprint(i)] = 0
	}
	recorded["outside"] = 80
	settled := map[string]int{}
	for round := range 50 {
		old := maps.Clone(recorded) // what both relays see
		changed := false
		for relay := range 2 {
			a := allot(old, first, last, func(n string) bool { return relayOf(n) == relay })
			if a.full {
				t.Fatal("full")
			}
			for _, w := range a.wanted {
				recorded[w.node], changed = w.port, true
			}
		}
		plan := allot(recorded, first, last, func(string) bool { return false })
		for node, port := range settled {
			if plan.byNode[node] != port {
				t.Fatalf("round %d: node %s had port %d, now %d", round, node, port, plan.byNode[node])
			}
		}
		if !changed {
			break
		}
		if len(plan.byNode) == len(recorded) {
			settled = plan.byNode
		}
	}
	plan := allot(recorded, first, last, func(string) bool { return true })
	if len(plan.wanted) != 0 || len(plan.byPort) != nodes+1 {
		t.Errorf("%d nodes have ports, %d want one", len(plan.byPort), len(plan.wanted))
	}
	for node, port := range plan.byNode {
		if port < first || port > last || plan.byPort[port] != node {
			t.Errorf("%s has port %d, which is of %s", node, port, plan.byPort[port])
		}
	}
	if a := allot(map[string]int{"a": 0, "b": 0, "c": 0}, 1, 2, func(string) bool { return true }); !a.full || len(a.wanted) != 2 {
		t.Errorf("two ports for three nodes: %+v", a)
	}
}

// TestConflict: of two nodes with one port the one that comes first by name has it, whoever sees it.
func TestConflict(t *testing.T) {
	a := allot(map[string]int{"b": 5, "a": 5, "c": 5}, 5, 9, func(n string) bool { return n != "b" })
	if a.byPort[5] != "a" || len(a.byNode) != 1 || len(a.wanted) != 1 || a.wanted[0].node != "c" {
		t.Errorf("%+v", a)
	}
}

// TestManyPorts opens, serves and closes ports with one goroutine.
func TestManyPorts(t *testing.T) {
	l, err := listenMany("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[int]string{}
	for range 50 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[free.Addr().(*net.TCPAddr).Port] = "n"
		_ = free.Close()
	}
	if err := l.set(ports); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			fmt.Fprint(c, portOf(withPort(context.Background(), c)))
			_ = c.Close()
		}
	})
	for port := range ports {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(c)
		_ = c.Close()
		if string(text) != fmt.Sprint(port) {
			t.Errorf("at port %d: %q", port, text)
		}
	}
	all := slices.Collect(maps.Keys(ports))
	delete(ports, all[0])
	if err := l.set(ports); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", all[0])); err == nil {
		_ = c.Close()
		t.Error("a port that is nobody's any more is open")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ports[taken.Addr().(*net.TCPAddr).Port] = "n"
	if err := l.set(ports); err == nil {
		t.Error("a port that is somebody else's was opened")
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	serving.Wait()
	if err := l.set(ports); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(entries) > 40 {
		t.Errorf("%d files are open: %v", len(entries), err)
	}
}

// TestNodesHavePorts: a node that is connected is given a port, and node-level paths lead to it there.
func TestNodesHavePorts(t *testing.T) {
	var mu sync.Mutex
	has, version := map[string]int{"gw-1": 0, "gw-2": 0}, uint64(1)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	tries := 0
	p := NewPorts(PortsOptions{
		Host: "127.0.0.1", First: port, Last: port,
		Nodes: func() (map[string]int, uint64) { mu.Lock(); defer mu.Unlock(); return maps.Clone(has), version },
		Mine:  func(node string) bool { return node == "gw-1" },
		Record: func(_ context.Context, node string, port int) error {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries == 1 {
				return apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, node, errors.New("changed"))
			}
			has[node] = port
			version++
			return nil
		},
	})
	w := newWorld(t, func(o *Options) {
		if o.Name == "a" {
			o.Ports = p
		}
	})
	w.until("open", func() bool { return allotted(p, "gw-1") == port })
	c := w.config(ask{cert: w.cluster.named("apiserver")})
	var conn *tls.Conn
	w.until("listening", func() bool {
		conn, err = tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), c)
		return err == nil
	})
	defer conn.Close()
	fmt.Fprint(conn, "GET /stats/summary HTTP/1.0\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if text, _ := io.ReadAll(conn); !strings.Contains(string(text), "agent: GET /stats/summary") {
		t.Errorf("%s", text)
	}
	if allotted(p, "gw-2") != 0 {
		t.Error("a node that is not connected was given a port")
	}
}

// allotted returns a node's port; 0: it has none (yet).
func allotted(p *Ports, node string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byNode[node]
}
