package hub_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/link/linktest"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/hub"
	"github.com/skerry/skerry/relay/hub/hubtest"
	"github.com/skerry/skerry/relay/session/sessiontest"
)

// The benchmarks run a hub in a process of its own, without a control plane, and agents in this one:
//
//	go test ./relay/hub -run '^$' -bench Fleet -benchtime 1x
//
// SKERRY_FLEET sets the number of agents (2,000), SKERRY_FLEET_PROFILE a folder for the hub's profiles. What the sink and the caches
// of a whole relay hold is not in the figures.

const fleetChild = "SKERRY_HUB_CHILD"

// fleetSource gives every node six objects, three of them shared.
type fleetSource struct {
	mu      sync.Mutex
	rev     uint64
	objects map[wire.Key]wire.Object
	subs    map[string]func(wire.Key)
}

func fleetNode(i int) string { return "gateway-" + strconv.Itoa(10_000+i) }

func sharedKeys() []wire.Key {
	return []wire.Key{
		wire.NewKey(wire.KindConfigMap, "default", "shared-a", ""),
		wire.NewKey(wire.KindConfigMap, "default", "shared-b", ""),
		wire.NewKey(wire.KindDeviceModel, "default", "meter", ""),
	}
}

func ownKeys(node string) []wire.Key {
	return []wire.Key{
		wire.NewKey(wire.KindNode, "", node, ""),
		wire.NewKey(wire.KindPod, "default", "app-"+node, "0b3c2c5e-7a55-4bb4-9d10-"+node),
		wire.NewKey(wire.KindDevice, "default", "meter-"+node, ""),
	}
}

func newFleetSource(agents int) *fleetSource {
	s := &fleetSource{rev: 1000, objects: map[wire.Key]wire.Object{}, subs: map[string]func(wire.Key){}}
	for _, k := range sharedKeys() {
		s.put(k, 1)
	}
	for i := range agents {
		for _, k := range ownKeys(fleetNode(i)) {
			s.put(k, 1)
		}
	}
	return s
}

// put stores a version of key and tells those who may hold it.
func (s *fleetSource) put(k wire.Key, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := linktest.Body(n)
	if k.Kind() == wire.KindPod {
		body = linktest.Body(n, sharedKeys()[:2]...)
	}
	s.rev++
	s.objects[k] = wire.Object{Key: k, Version: wire.BodyVersion("uid-"+k.Name(), body), Revision: s.rev, Body: body}
	for _, notify := range s.subs {
		notify(k) // only ever called of shared ones once there are subscribers
	}
}

func (s *fleetSource) Keys(node string) (map[wire.Key]wire.Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[wire.Key]wire.Version{}
	for _, k := range slices.Concat(sharedKeys(), ownKeys(node)) {
		out[k] = s.objects[k].Version
	}
	return out, true
}

func (s *fleetSource) Object(_ string, k wire.Key) (wire.Object, []wire.Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[k]
	if k.Kind() == wire.KindPod {
		return o, sharedKeys()[:2], ok
	}
	return o, nil, ok
}

func (s *fleetSource) Revisions() map[wire.Kind]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[wire.Kind]uint64{wire.KindConfigMap: s.rev, wire.KindPod: s.rev, wire.KindNode: s.rev, wire.KindDevice: s.rev}
}

func (s *fleetSource) Changed(wire.Kind) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

func (s *fleetSource) Subscribe(node string, notify func(wire.Key)) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[node] = notify
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subs, node)
	}
}

// quietSink takes everything and keeps nothing.
type quietSink struct{ *sessiontest.Sink }

func (quietSink) Report(string, uint64, wire.Key, []byte) {}

// fleetMemory is what the hub's process says of itself, bytes after a garbage collection.
type fleetMemory struct {
	Heap, Stack, RSS  uint64
	Uncollected       uint64 // RSS before the collection
	Objects           uint64
	Goroutines        int
	CPU               time.Duration
	Sessions, Commits int
}

// fleetServer is the hub's process: it reads commands and answers in JSON, a line each.
func fleetServer(config string) {
	var in struct {
		Agents        int
		CA, Cert, Key []byte
		GC            int
	}
	must(json.Unmarshal([]byte(config), &in))
	debug.SetGCPercent(in.GC)
	src := newFleetSource(in.Agents)
	set := metrics.NewSet()
	cfg, err := hubtest.TLSOf(in.CA, in.Cert, in.Key)
	must(err)
	h := hub.New(hub.Options{
		Name: "relay-a", TLS: cfg, Source: src, Sink: quietSink{sessiontest.NewSink()}, Rules: 1, Metrics: set,
	})
	l, err := hub.Listen(context.Background(), "127.0.0.1:0")
	must(err)
	go func() { must(h.Serve(context.Background(), l)) }()
	answer := json.NewEncoder(os.Stdout)
	must(answer.Encode(l.Addr().String()))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "memory":
			must(answer.Encode(fleetMeasure(h, set)))
		case "put":
			n, err := strconv.Atoi(words[1])
			must(err)
			src.put(sharedKeys()[0], n)
			must(answer.Encode("done"))
		case "heap":
			f, err := os.Create(words[1])
			must(err)
			runtime.GC()
			must(pprof.WriteHeapProfile(f))
			must(f.Close())
			must(answer.Encode("done"))
		case "cpu":
			f, err := os.Create(words[1])
			must(err)
			must(pprof.StartCPUProfile(f))
			must(answer.Encode("done"))
		case "cpuend":
			pprof.StopCPUProfile()
			must(answer.Encode("done"))
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func fleetMeasure(h *hub.Hub, set *metrics.Set) fleetMemory {
	uncollected := fleetRSS()
	runtime.GC() // stacks shrink in the first one
	debug.FreeOSMemory()
	time.Sleep(100 * time.Millisecond)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	out := fleetMemory{
		Heap: m.HeapAlloc, Stack: m.StackInuse, Objects: m.HeapObjects, Goroutines: runtime.NumGoroutine(),
		CPU:      time.Duration(u.Utime.Nano() + u.Stime.Nano()),
		Sessions: len(h.Sessions()), Commits: int(set.GetOrCreateCounter("skerry_relay_commits_sent_total").Get()),
	}
	out.RSS, out.Uncollected = fleetRSS(), uncollected
	return out
}

func fleetRSS() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
			must(err)
			return kb << 10
		}
	}
	return 0
}

// fleetHub is the other end: the hub's process as the benchmark sees it.
type fleetHub struct {
	b       *testing.B
	write   func(string)
	out     *bufio.Scanner
	address string
}

func startFleetHub(b *testing.B, pki *hubtest.PKI, agents int) *fleetHub {
	b.Helper()
	ca, cert, key := pki.ServerPEM()
	gc := 100
	if s := os.Getenv("GOGC"); s != "" {
		gc, _ = strconv.Atoi(s)
	}
	config, err := json.Marshal(map[string]any{"Agents": agents, "CA": ca, "Cert": cert, "Key": key, "GC": gc})
	if err != nil {
		b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), self)
	cmd.Env = append(os.Environ(), fleetChild+"="+string(config))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	f := &fleetHub{b: b, out: bufio.NewScanner(stdout)}
	f.write = func(s string) {
		if _, err := fmt.Fprintln(stdin, s); err != nil {
			b.Fatal(err)
		}
	}
	f.read(&f.address)
	return f
}

func (f *fleetHub) read(to any) {
	f.b.Helper()
	if !f.out.Scan() {
		f.b.Fatalf("the hub's process has ended: %v", f.out.Err())
	}
	if err := json.Unmarshal(f.out.Bytes(), to); err != nil {
		f.b.Fatal(err)
	}
}

func (f *fleetHub) do(command string) { f.write(command); f.read(new(string)) }

func (f *fleetHub) memory() (m fleetMemory) { f.write("memory"); f.read(&m); return m }

// profile writes a profile if a folder is named for them.
func (f *fleetHub) profile(command, name string) {
	if dir := os.Getenv("SKERRY_FLEET_PROFILE"); dir != "" {
		f.do(strings.TrimSpace(command + " " + dir + "/" + name))
	}
}

// commits is an agent's store that says when a commit was applied.
type commits struct {
	*linktest.Store
	applied func(wire.Commit)
}

func (c *commits) Apply(ctx context.Context, w wire.Commit) error {
	err := c.Store.Apply(ctx, w)
	c.applied(w)
	return err
}

func fleetSize() int {
	if n, err := strconv.Atoi(os.Getenv("SKERRY_FLEET")); err == nil && n > 0 {
		return n
	}
	return 2000
}

func connectFleet(b *testing.B, pki *hubtest.PKI, address string, agents int, wrap func(i int, c net.Conn) net.Conn, applied func(i int, c wire.Commit)) []*link.Client {
	b.Helper()
	clients := make([]*link.Client, agents)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	b.Cleanup(func() { cancel(); all.Wait() })
	dialling := make(chan struct{}, 16)
	for i := range clients {
		name := fleetNode(i)
		clients[i] = link.New(link.Options{
			Addresses: []string{address}, TLS: pki.ClientTLS(pki.Node(name)), Node: name, Version: "bench",
			Desired: &commits{linktest.NewStore(), func(c wire.Commit) { applied(i, c) }},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialling <- struct{}{}
				defer func() { <-dialling }()
				c, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return wrap(i, c), nil
			},
		})
		c := clients[i]
		all.Go(func() { _ = c.Run(ctx) })
	}
	waitFleet(b, "all agents are in sync", func() bool {
		for _, c := range clients {
			if !c.Status().InSync {
				return false
			}
		}
		return true
	})
	return clients
}

func waitFleet(b *testing.B, what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	b.Fatalf("did not come to pass: %s", what)
}

// BenchmarkFleetMemory prints what an idle agent costs the hub's process.
func BenchmarkFleetMemory(b *testing.B) {
	pki := hubtest.NewPKI(b)
	agents := fleetSize()
	f := startFleetHub(b, pki, agents)
	before := f.memory()
	clients := connectFleet(b, pki, f.address, agents, func(_ int, c net.Conn) net.Conn { return c }, func(int, wire.Commit) {})
	// A report of the size that a gateway's Node has: buffers grow to what passes through them.
	for i, c := range clients {
		c.Report(ownKeys(fleetNode(i))[0], linktest.Body(1, slices.Repeat(sharedKeys(), 20)...))
	}
	waitFleet(b, "all reports are taken", func() bool {
		return !slices.ContainsFunc(clients, func(c *link.Client) bool { return c.Status().ReportsPending > 0 })
	})
	time.Sleep(2 * time.Second)
	f.profile("heap", "hub-heap.pprof")
	after := f.memory()
	if after.Sessions != agents {
		b.Fatalf("%d sessions", after.Sessions)
	}
	each := func(from, to uint64) float64 { return (float64(to) - float64(from)) / float64(agents) }
	for b.Loop() { // the figures are of the state, not of a time
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each(before.Heap, after.Heap), "heap-B/agent")
	b.ReportMetric(each(before.Stack, after.Stack), "stack-B/agent")
	b.ReportMetric(each(before.RSS, after.RSS), "rss-B/agent")
	b.ReportMetric(each(before.RSS, after.Uncollected), "uncollected-rss-B/agent")
	b.ReportMetric(each(before.Objects, after.Objects), "objects/agent")
	b.ReportMetric(float64(after.Goroutines-before.Goroutines)/float64(agents), "goroutines/agent")
	b.ReportMetric(float64(after.CPU.Microseconds())/float64(agents), "connect-cpu-us/agent")
}

// BenchmarkFleetFanout changes one object that all agents hold.
func BenchmarkFleetFanout(b *testing.B) { benchmarkFanout(b, 0) }

// BenchmarkFleetFanoutBesideStopped does it while a twentieth of them read nothing.
func BenchmarkFleetFanoutBesideStopped(b *testing.B) { benchmarkFanout(b, fleetSize()/20) }

func benchmarkFanout(b *testing.B, stopped int) {
	pki := hubtest.NewPKI(b)
	agents := fleetSize()
	f := startFleetHub(b, pki, agents)
	var mu sync.Mutex
	var at []time.Time
	var stall atomic.Bool
	connectFleet(b, pki, f.address, agents, func(i int, c net.Conn) net.Conn {
		if i < stopped {
			return &stallable{Conn: c, stall: &stall}
		}
		return c
	}, func(i int, _ wire.Commit) {
		mu.Lock()
		defer mu.Unlock()
		if i >= stopped {
			at = append(at, time.Now())
		}
	})
	before := f.memory()
	f.profile("cpu", "hub-cpu.pprof")
	stall.Store(true)
	n := 1
	var delays []time.Duration
	for b.Loop() {
		n++
		mu.Lock()
		at = at[:0]
		mu.Unlock()
		start := time.Now()
		f.do("put " + strconv.Itoa(n))
		waitFleet(b, "all hold the change", func() bool { mu.Lock(); defer mu.Unlock(); return len(at) == agents-stopped })
		for _, t := range at {
			delays = append(delays, t.Sub(start))
		}
	}
	if os.Getenv("SKERRY_FLEET_PROFILE") != "" {
		f.do("cpuend")
	}
	after := f.memory()
	stall.Store(false)
	slices.Sort(delays)
	ms := func(q float64) float64 { return float64(delays[int(q*float64(len(delays)-1))].Microseconds()) / 1000 }
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(ms(1), "max-ms")
	b.ReportMetric(float64((after.CPU-before.CPU).Microseconds())/float64(len(delays)), "hub-cpu-us/commit")
	if stopped > 0 {
		b.ReportMetric((float64(after.Heap)-float64(before.Heap))/float64(stopped), "heap-B/stopped")
	}
}

// stallable is an agent's connection that gives nothing to read while stall is set.
type stallable struct {
	net.Conn
	stall  *atomic.Bool
	closed atomic.Bool
}

func (s *stallable) Close() error {
	s.closed.Store(true)
	return s.Conn.Close()
}

func (s *stallable) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	for s.stall.Load() && !s.closed.Load() {
		time.Sleep(100 * time.Millisecond)
	}
	return n, err
}
