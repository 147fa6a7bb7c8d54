//go:build integration

package relay

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/hil-tests/rig/controlplane"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/relay/api/crds"
	"github.com/skerry/skerry/relay/kube"
)

// cluster is one control plane for all tests of this package; each test has a namespace of its own.
var cluster *controlplane.ControlPlane

func bin(name string) string {
	dir := os.Getenv("SKERRY_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "build", "bin")
	}
	return filepath.Join(dir, name)
}

func TestMain(m *testing.M) { os.Exit(withCluster(m)) }

func withCluster(m *testing.M) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	dir, err := os.MkdirTemp("", "skerry-relay-test-")
	if err != nil {
		log.Error("temporary folder", "err", err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), controlplane.StartTimeout)
	defer cancel()
	cluster, err = controlplane.Start(ctx, controlplane.Options{Binary: bin("skerry-kube"), Dir: dir})
	if err != nil {
		log.Error("control plane", "err", err)
		return 1
	}
	defer func() {
		if err := cluster.Kill(); err != nil {
			log.Error("control plane", "err", err)
		}
	}()
	return m.Run()
}

// bench is an index and a sink on the real API.
type bench struct {
	t     *testing.T
	index *kube.Index
	sink  *kube.Sink
	set   *metrics.Set
	mu    sync.Mutex
	gone  []uint64
	last  map[wire.Key][]byte // what was reported last, to answer when the sink asks again
}

func (b *bench) want(node string, epoch uint64, keys []wire.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		if body := b.last[key]; body != nil {
			b.sink.Report(node, epoch, key, body)
		}
	}
}

func newBench(t *testing.T, name string) *bench {
	t.Helper()
	c, err := clientset.NewForConfig(cluster.REST())
	if err != nil {
		t.Fatal(err)
	}
	if err := crds.Install(t.Context(), c, func(string, crds.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, set: metrics.NewSet(), last: make(map[wire.Key][]byte)}
	m := kube.NewMetrics(b.set)
	clients, err := kube.Connect(kube.ClientOptions{Kubeconfig: cluster.Kubeconfig(), QPS: 200, Burst: 400, Metrics: m})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("relay", name)
	b.index = kube.NewIndex(kube.IndexOptions{Client: clients.API, Log: log, Metrics: m})
	b.sink = kube.NewSink(kube.SinkOptions{
		Index: b.index, Client: clients.API, Leases: clients.Leases, Statuses: clients.Statuses, Relay: name, Log: log, Metrics: m,
		LeaseDuration: 4 * time.Second, LeaseInterval: time.Second,
		Want: b.want,
		Fenced: func(_ string, epoch uint64) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.gone = append(b.gone, epoch)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.index.Run(ctx) })
	wg.Go(func() { _ = b.sink.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	b.until("the caches are complete", func() bool { ready, _ := b.index.Ready(); return ready })
	return b
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			b.t.Fatalf("after 30 s it is not so that %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *bench) report(node string, epoch uint64, key wire.Key, doc string) {
	b.t.Helper()
	body, err := canon.FromJSON([]byte(doc))
	if err != nil {
		b.t.Fatalf("report %s: %v", doc, err)
	}
	b.mu.Lock()
	b.last[key] = body
	b.mu.Unlock()
	b.sink.Report(node, epoch, key, body)
}

// requests sums the API requests that are not watches or about leases.
func (b *bench) requests() int {
	n := 0
	for _, name := range b.set.ListMetricNames() {
		if strings.HasPrefix(name, "skerry_relay_api_requests_total") && !strings.Contains(name, "leases") &&
			!strings.Contains(name, `"watch"`) && !strings.Contains(name, `"list"`) {
			n += int(b.set.GetOrCreateCounter(name).Get())
		}
	}
	return n
}

// settled waits until nothing is left to write.
func (b *bench) settled() {
	b.t.Helper()
	b.until("everything is written", func() bool {
		return !slices.ContainsFunc(b.sink.Sessions(), func(s kube.SessionInfo) bool { return s.Pending > 0 })
	})
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func apply(t *testing.T, manifests string) {
	t.Helper()
	if out, err := cluster.Apply(t.Context(), manifests); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// field reads one JSONPath of an object.
func field(t *testing.T, object, path string, args ...string) string {
	t.Helper()
	return kubectl(t, append([]string{"get", object, "-o", "jsonpath={" + path + "}"}, args...)...)
}

// eventually waits for one JSONPath of an object to have a value.
func eventually(t *testing.T, object, path, want string, args ...string) {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := process.Poll(limited, object+path+" is "+want, nil, func(ctx context.Context) error {
		if out, err := cluster.Kubectl(ctx, append([]string{"get", object, "-o", "jsonpath={" + path + "}"}, args...)...); err != nil {
			return err
		} else if out != want {
			return errorString("it is " + out)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

type errorString string

func (e errorString) Error() string { return string(e) }
