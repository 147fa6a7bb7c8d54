package kubelet

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	portsEvery  = time.Second      // how often changes of the nodes are looked for
	portsRemind = 10 * time.Minute // between two lines about the same trouble
	portsAtOnce = 50               // ports allotted in one round
	portBacklog = 128
)

// PortsOptions configures Ports. Host may be empty; all others are required.
type PortsOptions struct {
	Host        string // to listen at
	First, Last int    // the range
	// Nodes returns the port in each Skerry node's annotation (0: none), and a number that changes when the answer does.
	Nodes func() (ports map[string]int, version uint64)
	// Mine says whether a node is connected to this relay, which then sees to its port.
	Mine func(node string) bool
	// Record writes a node's port into its annotation, unless the Node has changed since Nodes was asked.
	Record func(ctx context.Context, node string, port int) error
	Log    *slog.Logger // may be nil
}

// Ports gives each node a port of its own, so that requests which name no pod find their node. A port is allotted once, by the relay to
// which the node is connected then, and kept in the Node; all relays listen at all of them. Create it with NewPorts.
type Ports struct {
	o   PortsOptions
	log *slog.Logger

	mu     sync.Mutex
	byPort map[int]string
	byNode map[string]int

	// Of run's goroutine.
	seen   uint64
	looked bool
	said   time.Time
}

// NewPorts returns Ports that know of no node yet.
func NewPorts(o PortsOptions) *Ports {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Ports{o: o, log: o.Log}
}

// node returns whose port it is.
func (p *Ports) node(port int) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.byPort[port]
	return n, ok
}

// run keeps the listeners and the allotments until ctx ends. serve is called once, and serves what it is given until that is closed.
func (p *Ports) run(ctx context.Context, serve func(net.Listener) error) {
	many, err := listenMany(p.o.Host)
	if err != nil {
		p.log.Error("ports of nodes cannot be opened: node-level paths have to be asked for by /nodes/NAME/…", slog.Any("error", err))
		return
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = serve(many) })
	defer serving.Wait()
	defer func() { _ = many.Close() }()
	t := time.NewTicker(portsEvery)
	defer t.Stop()
	for {
		p.round(ctx, many)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// opener is what run needs of the listeners.
type opener interface {
	set(ports map[int]string) error // exactly these are open; what cannot be opened is the error
}

func (p *Ports) round(ctx context.Context, many opener) {
	ports, version := p.o.Nodes()
	plan := allot(ports, p.o.First, p.o.Last, p.o.Mine)
	if !p.looked || version != p.seen {
		p.looked, p.seen = true, version
		p.mu.Lock()
		p.byPort, p.byNode = plan.byPort, plan.byNode
		p.mu.Unlock()
		if err := many.set(plan.byPort); err != nil {
			p.remark("some nodes' ports cannot be opened", err)
		}
	}
	for i, a := range plan.wanted {
		if i == portsAtOnce || ctx.Err() != nil {
			return
		}
		attempt, cancel := context.WithTimeout(ctx, reviewLimit)
		err := p.o.Record(attempt, a.node, a.port)
		cancel()
		switch {
		case err == nil:
			p.log.Info("node has a kubelet port", slog.String("node", a.node), slog.Int("port", a.port))
		case apierrors.IsConflict(err) || apierrors.IsNotFound(err): // changed meanwhile: the next round sees how
		case ctx.Err() == nil:
			p.remark("a node's kubelet port cannot be recorded", err)
		}
	}
	if plan.full {
		p.remark("kubelet.nodePorts has fewer ports than there are nodes: the others have node-level paths by /nodes/NAME/… only",
			fmt.Errorf("%d nodes, %d ports", len(ports), p.o.Last-p.o.First+1))
	}
}

func (p *Ports) remark(what string, err error) {
	if time.Since(p.said) >= portsRemind {
		p.said = time.Now()
		p.log.Warn(what, slog.Any("error", err))
	}
}

// allotment is what follows from the nodes' annotations.
type allotment struct {
	byPort map[int]string
	byNode map[string]int
	wanted []nodePort // to be recorded by this relay
	full   bool
}

type nodePort struct {
	node string
	port int
}

// allot decides whose each port is. Two relays may have given one port to two nodes at the same time: the name that comes first keeps it, so
// that all relays agree, and the other gets a new one. Ports outside the range are given up. A new port is looked for from where
// the node's name hashes to, so that relays rarely choose the same for two nodes.
func allot(ports map[string]int, first, last int, mine func(string) bool) allotment {
	a := allotment{byPort: make(map[int]string, len(ports)), byNode: make(map[string]int, len(ports))}
	var without []string
	for node, port := range ports {
		if port < first || port > last {
			without = append(without, node)
			continue
		}
		if other, taken := a.byPort[port]; taken {
			if other < node {
				without = append(without, node)
				continue
			}
			without = append(without, other)
			delete(a.byNode, other)
		}
		a.byPort[port], a.byNode[node] = node, port
	}
	slices.Sort(without)
	size := last - first + 1
	promised := map[int]bool{}
	for _, node := range without {
		if len(a.byPort)+len(promised) >= size {
			a.full = true
			break
		}
		if !mine(node) {
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(node))
		for i := range size {
			port := first + (int(h.Sum32()%uint32(size))+i)%size //nolint:gosec // size is a port range's
			if _, taken := a.byPort[port]; !taken && !promised[port] {
				promised[port] = true
				a.wanted = append(a.wanted, nodePort{node, port})
				break
			}
		}
	}
	return a
}
