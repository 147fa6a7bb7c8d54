package orphans

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

const (
	defaultAfter  = 5 * time.Minute
	defaultPeriod = time.Minute
	askAgain      = 5 * time.Minute // where the runtime has its things
	removeTime    = time.Minute     // for one CNI DEL
)

// Runtime is what is asked of the container runtime. *cri.Client implements it.
type Runtime interface {
	Status(ctx context.Context, verbose bool) (*cri.StatusResponse, error)
	ListPodSandbox(ctx context.Context, filter *cri.PodSandboxFilter) ([]cri.PodSandbox, error)
	PodSandboxStatus(ctx context.Context, id string, verbose bool) (*cri.PodSandboxStatusResponse, error)
}

// Options configure a Sweeper.
type Options struct {
	Runtime Runtime // required
	// Foreign reports whether a container is another tool's, in the same containerd; its shim is left alone. Required.
	Foreign func(ctx context.Context, container string) (bool, error)
	// After is how long the runtime must not have known of something before it is removed. It has to be longer than making a sandbox
	// takes, network included. Default 5 min.
	After  time.Duration
	Period time.Duration // between looks. Default 1 min, or half of After if that is less
	Log    *slog.Logger  // default slog.Default()

	machine machine // for tests; default: this one
}

// machine is where the runtime's things are.
type machine interface {
	// shims returns the shims of a runtime's socket, by sandbox.
	shims(socket string) (map[string]int, error)
	// endShim kills the processes of a sandbox and then its shim, if pid is still that.
	endShim(pid int, socket, sandbox string) error
	// namespaces returns the names of the network namespaces in a folder that the runtime has made.
	namespaces(dir string) ([]string, error)
	// removeNamespace removes one. It is an error if a process is in it.
	removeNamespace(dir, name string) error
	// attachments returns who has an address in the runtime's network.
	attachments(n network) ([]attachment, error)
	// detach gives it back.
	detach(ctx context.Context, n network, a attachment) error
}

// places is where containerd has its things.
type places struct {
	socket     string // containerd's own, which its shims are called with
	namespaces string // folder
	network    network
}

// orphan is something that no sandbox owns.
type orphan struct {
	what, name string
	remove     func(ctx context.Context) error
}

type key struct{ what, name string }

// Sweeper removes what a runtime has lost.
type Sweeper struct {
	o      Options
	places *places // nil: not known, or not containerd
	asked  time.Time
	since  map[key]time.Time // when it was first seen without an owner, and at each look since
	told   map[key]bool      // that it cannot be removed
	owned  map[string]string // network namespace by sandbox
}

// New returns a Sweeper.
func New(o Options) *Sweeper {
	if o.After <= 0 {
		o.After = defaultAfter
	}
	if o.Period <= 0 {
		o.Period = min(defaultPeriod, o.After/2)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.machine == nil {
		o.machine = thisMachine{}
	}
	return &Sweeper{o: o, since: map[key]time.Time{}, told: map[key]bool{}, owned: map[string]string{}}
}

// Run looks again and again until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.Period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.look(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.Debug("cannot look for what the runtime has lost", "error", err)
			}
		}
	}
}

// look notes what no sandbox owns, and removes what none has owned for long enough.
func (s *Sweeper) look(ctx context.Context) error {
	if err := s.ask(ctx); err != nil || s.places == nil {
		clear(s.since) // what was not looked at may have had an owner
		return err
	}
	list, err := s.orphans(ctx)
	if err != nil {
		clear(s.since)
		return err
	}
	now, seen := time.Now(), make(map[key]time.Time, len(list))
	for _, o := range list {
		k := key{o.what, o.name}
		first, ok := s.since[k]
		if !ok {
			first = now
		}
		seen[k] = first
		if now.Sub(first) < s.o.After {
			continue
		}
		log := s.o.Log.With("what", o.what, "name", o.name)
		if err := s.remove(ctx, o); err != nil {
			if !s.told[k] {
				s.told[k] = true
				log.Warn("cannot remove what the container runtime has lost: it is tried again at each look, and not told again", "error", err)
			}
			continue
		}
		log.Info("removed what the container runtime has lost: it was killed while it made or removed a pod's sandbox")
		delete(seen, k)
	}
	s.since = seen
	maps.DeleteFunc(s.told, func(k key, _ bool) bool { return seen[k].IsZero() })
	return nil
}

func (s *Sweeper) remove(ctx context.Context, o orphan) error {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	return o.remove(ctx)
}

// ask learns where the runtime has its things.
func (s *Sweeper) ask(ctx context.Context) error {
	if !s.asked.IsZero() && time.Since(s.asked) < askAgain {
		return nil
	}
	resp, err := s.o.Runtime.Status(ctx, true)
	if err != nil {
		return fmt.Errorf("ask the runtime where its things are: %w", err)
	}
	s.places, s.asked = placesOf(resp.Info["config"]), time.Now()
	return nil
}

// placesOf reads containerd's configuration, as its verbose status has it. Nil: this is another runtime's.
func placesOf(config string) *places {
	var c struct {
		Endpoint  string `json:"containerdEndpoint"`
		StateDir  string `json:"stateDir"`
		UnderOurs bool   `json:"netnsMountsUnderStateDir"`
		CNI       struct {
			ConfDir string   `json:"confDir"`
			BinDir  string   `json:"binDir"`
			BinDirs []string `json:"binDirs"`
		} `json:"cni"`
	}
	if json.Unmarshal([]byte(config), &c) != nil || c.StateDir == "" {
		return nil
	}
	p := &places{socket: c.Endpoint, namespaces: "/var/run/netns", network: network{confDir: c.CNI.ConfDir, binDirs: c.CNI.BinDirs}}
	if c.UnderOurs {
		p.namespaces = path.Join(c.StateDir, "netns")
	}
	if c.CNI.BinDir != "" {
		p.network.binDirs = append(p.network.binDirs, c.CNI.BinDir)
	}
	return p
}

// orphans returns what no sandbox owns. The machine is read first: what is there and belongs to a sandbox that the runtime knows a moment later is no orphan.
func (s *Sweeper) orphans(ctx context.Context) ([]orphan, error) {
	m, p := s.o.machine, s.places
	shims, err := m.shims(p.socket)
	if err != nil {
		return nil, err
	}
	namespaces, err := m.namespaces(p.namespaces)
	if err != nil {
		return nil, err
	}
	attachments, err := m.attachments(p.network)
	if err != nil { // a configuration that the runtime cannot read either: the rest goes on
		s.o.Log.Debug("cannot look for addresses that the runtime has lost", "error", err)
	}
	boxes, err := s.o.Runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	known := make(map[string]bool, len(boxes))
	for i := range boxes {
		known[boxes[i].ID] = true
	}
	var out []orphan
	for id, pid := range shims {
		if known[id] {
			continue
		}
		if foreign, err := s.o.Foreign(ctx, id); err != nil {
			return nil, err
		} else if !foreign {
			out = append(out, orphan{"shim", id, func(context.Context) error { return m.endShim(pid, p.socket, id) }})
		}
	}
	for _, a := range attachments {
		if !known[a.container] {
			out = append(out, orphan{"address", a.container + "/" + a.ifName, func(ctx context.Context) error { return m.detach(ctx, p.network, a) }})
		}
	}
	ownerless, err := s.ownerless(ctx, namespaces, known)
	if err != nil { // none may be removed as long as one sandbox does not tell its own
		s.o.Log.Debug("cannot look for network namespaces that the runtime has lost", "error", err)
	}
	for _, name := range ownerless {
		out = append(out, orphan{"network namespace", name, func(context.Context) error { return m.removeNamespace(p.namespaces, name) }})
	}
	return out, nil
}

// ownerless returns the namespaces that are no sandbox's. A sandbox is asked for its own once.
func (s *Sweeper) ownerless(ctx context.Context, namespaces []string, known map[string]bool) ([]string, error) {
	for id := range s.owned {
		if !known[id] {
			delete(s.owned, id)
		}
	}
	left := map[string]bool{}
	for _, name := range namespaces {
		left[name] = true
	}
	for _, name := range s.owned {
		delete(left, name)
	}
	if len(left) == 0 {
		return nil, nil
	}
	for id := range known {
		if _, ok := s.owned[id]; ok {
			continue
		}
		name, err := s.namespaceOf(ctx, id)
		if errors.Is(err, cri.ErrNotFound) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		s.owned[id] = name
		delete(left, name)
	}
	out := make([]string, 0, len(left))
	for name := range left {
		out = append(out, name)
	}
	return out, nil
}

// namespaceOf asks for the name of a sandbox's network namespace; "" if it has the host's.
func (s *Sweeper) namespaceOf(ctx context.Context, sandbox string) (string, error) {
	resp, err := s.o.Runtime.PodSandboxStatus(ctx, sandbox, true)
	if err != nil {
		return "", fmt.Errorf("ask for the network namespace of sandbox %s: %w", sandbox, err)
	}
	var info struct {
		RuntimeSpec *struct {
			Linux struct {
				Namespaces []struct {
					Type string `json:"type"`
					Path string `json:"path"`
				} `json:"namespaces"`
			} `json:"linux"`
		} `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(resp.Info["info"]), &info); err != nil {
		return "", fmt.Errorf("read the network namespace of sandbox %s: %w", sandbox, err)
	}
	if info.RuntimeSpec == nil {
		return "", fmt.Errorf("the runtime does not tell the network namespace of sandbox %s", sandbox)
	}
	for _, n := range info.RuntimeSpec.Linux.Namespaces {
		if n.Type == "network" {
			return path.Base(n.Path), nil
		}
	}
	return "", nil
}
