package cni

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/wire"
)

// DefaultDir is where runtimes look for CNI configurations if they do not say.
const DefaultDir = "/etc/cni/net.d"

const askAgain = 5 * time.Minute // the runtime, whose configuration may have changed

// Runtime tells where it reads its CNI configuration. *cri.Client implements it.
type Runtime interface {
	Status(ctx context.Context, verbose bool) (*cri.StatusResponse, error)
}

// Desired is where the node's own object is. *store.Desired implements it.
type Desired interface {
	Get(key wire.Key) (wire.Object, bool)
}

// Options configure a Keeper.
type Options struct {
	Node    string          // required: the node's name
	Desired Desired         // required
	Changed <-chan struct{} // optional: the node's object may have changed
	Runtime Runtime         // required
	Log     *slog.Logger    // default: slog.Default()

	Disabled   bool           // write no configuration, and remove the one written before
	Ranges     []netip.Prefix // of the configuration; the cluster's go before them
	Masquerade bool           // pods' packets leave the gateway with its own address
	MTU        int            // of the pods' links; 0: the kernel's default
	Dir        string         // where the configuration goes; empty: where the runtime says that it looks, else DefaultDir
	DataDir    string         // where host-local notes addresses; empty: its default, below /var/lib/cni

	Warn func(message string) // optional: an operator should know; must not block

	// Awaited names the pod that will bring another CNI's configuration to a folder; "" if none is bound to the gateway. While one is, a gateway without
	// a network waits for it, for AwaitedWait. Optional.
	Awaited     func(dir string) string
	AwaitedWait time.Duration // default 5 min
	// Complete reports whether all pods of the gateway are known. A gateway that is not told yet when Run starts is a new one: it waits for
	// Settle after its own object has come, in which the cluster binds the pods of its DaemonSets to it. Optional.
	Complete func() bool
	Settle   time.Duration // default 3 s

	Wait   time.Duration // default 10 s: how long a gateway without a network waits for the cluster's ranges before it takes others
	Period time.Duration // default 5 s: how often the folder is looked at

	// Networks are those that the gateway is connected to. Default: by its interfaces' addresses.
	Networks func() ([]Network, error)
}

// Keeper keeps the CNI configuration.
type Keeper struct {
	o       Options
	started time.Time
	usual   string // the folder of runtimes that do not tell theirs

	// Known to Run alone.
	dir     string   // of the configuration
	told    bool     // by the runtime or by ours, that this is the folder
	bins    []string // of the plugins; none: nobody knows
	asked   time.Time
	yielded bool      // another CNI's configuration was there
	fresh   bool      // the gateway knew nothing of the cluster when Run started
	heard   time.Time // of the gateway's own object; zero: not yet
	awaited time.Time // since when a pod that brings another CNI is waited for; zero: for none

	mu   sync.Mutex
	last verdict
}

// New returns a Keeper. It touches nothing before Run.
func New(o Options) *Keeper {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Wait == 0 {
		o.Wait = 10 * time.Second
	}
	if o.Period == 0 {
		o.Period = 5 * time.Second
	}
	if o.Settle == 0 {
		o.Settle = 3 * time.Second
	}
	if o.AwaitedWait == 0 {
		o.AwaitedWait = 5 * time.Minute
	}
	if o.Networks == nil {
		o.Networks = connected
	}
	return &Keeper{o: o, usual: DefaultDir}
}

// Run keeps the configuration until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	k.started = time.Now()
	k.fresh = k.o.Complete != nil && !k.o.Complete()
	period := time.NewTicker(k.o.Period)
	defer period.Stop()
	for {
		wait := k.look(ctx)
		timer := time.NewTimer(cmp.Or(wait, time.Hour))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-period.C:
		case <-timer.C:
		case <-k.o.Changed:
		}
		timer.Stop()
	}
}

// Problem says what keeps pods from having a network, and what to do; "" if nothing that a Keeper knows of does.
func (k *Keeper) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last.problem
}

// Status says for a person which network pods have, or why none.
func (k *Keeper) Status() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch v := k.last; {
	case v.problem != "":
		return "NOT READY: " + v.problem
	case v.warning != "":
		return v.network + ", BUT " + v.warning
	default:
		return v.network
	}
}

// verdict is the outcome of a look.
type verdict struct {
	problem string        // pods have no network for this reason
	warning string        // they have one, but not the one that they should have
	network string        // the one that they have
	wait    time.Duration // look again after that time; 0: at the next period
}

// look compares the folder with what should be there, and corrects it. It returns after what time it wants to look again.
func (k *Keeper) look(ctx context.Context) time.Duration {
	v := k.decide(ctx)
	k.mu.Lock()
	told := k.last.problem == v.problem && k.last.warning == v.warning
	k.last = v
	k.mu.Unlock()
	switch text := cmp.Or(v.problem, v.warning); {
	case told || text == "":
	case v.wait > 0:
		k.o.Log.Info("pods have no network yet", "why", text)
	default:
		k.o.Log.Warn("the pods' network", "problem", text)
		if k.o.Warn != nil {
			k.o.Warn(text)
		}
	}
	return v.wait
}

// decide compares the folder with what should be there. A runtime that does not tell where it looks may look elsewhere; whether pods have a
// network is then for itself to say, and what is wrong with the folder only a warning.
func (k *Keeper) decide(ctx context.Context) verdict {
	if !k.askRuntime(ctx) {
		return verdict{wait: time.Second, network: "unknown: the container runtime does not answer"} // the node says so already
	}
	v := k.judge()
	if v.problem != "" && !k.told {
		v.warning, v.problem, v.network = v.problem, "", "the container runtime's own"
	}
	return v
}

func (k *Keeper) judge() verdict {
	path := filepath.Join(k.dir, FileName)
	other, beyond, err := foreign(k.dir)
	if k.o.Disabled || other != "" {
		k.yield(path, other)
		if other == "" {
			err = errors.Join(err, fmt.Errorf("there is no CNI configuration in %s, and pods.network.enabled is false: wait for the CNI's DaemonSet, "+
				"install a configuration, or let skerryd write one", k.dir))
		}
	}
	if err != nil {
		return verdict{problem: err.Error()}
	}
	if other != "" {
		return verdict{network: "of another CNI, by " + filepath.Join(k.dir, other)}
	}
	v := k.own(path)
	if beyond != nil && v.wait == 0 {
		v.warning = cmp.Or(v.warning, beyond.Error()+". Its name comes after "+FileName+", so that runtimes do not read it")
	}
	return v
}

// own sees to our own file.
func (k *Keeper) own(path string) verdict {
	have, err := os.ReadFile(path) //nolint:gosec // our own file
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return verdict{problem: fmt.Sprintf("read skerryd's CNI configuration: %v", err)}
	}
	before := rangesOf(have)
	if k.yielded && len(before) == 0 {
		return verdict{problem: fmt.Sprintf("another CNI's configuration was in %s and is gone: it is not replaced while that CNI may come back. Restart skerryd to have its own network", k.dir)}
	}
	if len(before) == 0 {
		if v := k.await(); v.problem != "" {
			return v
		}
	}
	ranges, problem, wait := k.ranges(before)
	if len(ranges) == 0 {
		return verdict{problem: problem, wait: wait}
	}
	v := verdict{warning: problem, wait: wait, network: "skerryd's own, " + list(ranges)}
	if err := k.write(path, have, ranges, before); err != nil && len(before) > 0 {
		v.warning, v.network = err.Error(), "skerryd's own, "+list(before) // a full disk takes no network away
	} else if err != nil {
		v.problem = err.Error()
	}
	if name := ahead(k.dir); name != "" && v.wait == 0 {
		v.warning = fmt.Sprintf("%s makes no network, and the container runtime takes it before %s: remove it, or give it a name that comes after that. "+
			"Runtimes give pods the loopback by themselves", filepath.Join(k.dir, name), FileName)
	}
	if names := missing(k.bins); len(names) > 0 {
		v.problem = fmt.Sprintf("CNI plugins are missing in %s: %s. Install them (Debian: containernetworking-plugins, in /usr/lib/cni) or correct bin_dir of the container runtime",
			strings.Join(k.bins, ", "), strings.Join(names, ", "))
	}
	return v
}

// write puts the file in place, if it is not as it should be.
func (k *Keeper) write(path string, have []byte, ranges, before []netip.Prefix) error {
	want, err := text(ranges, &k.o)
	if err != nil || bytes.Equal(have, want) {
		return err
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil { //nolint:gosec // the runtime's folder, and other CNIs'
		return fmt.Errorf("make the folder for CNI configurations: %w", err)
	}
	if err := durable.Replace(path, want, 0o644); err != nil {
		return fmt.Errorf("write the CNI configuration: %w", err)
	}
	k.o.Log.Info("pods have a network", "configuration", path, "addresses", list(ranges), "before", list(before))
	return nil
}

// yield removes our file, because another one is there or nobody wants it.
func (k *Keeper) yield(path, other string) {
	k.yielded = k.yielded || other != ""
	if err := os.Remove(path); err == nil {
		k.o.Log.Info("skerryd's CNI configuration is removed; pods that run keep their network", "configuration", path, "now", cmp.Or(other, "none"))
	} else if !errors.Is(err, os.ErrNotExist) {
		k.o.Log.Error("skerryd's CNI configuration cannot be removed", "error", err)
	}
}

// askRuntime learns where the runtime has its CNI configurations and plugins, once in a while. containerd tells; others read the usual
// folder. It reports whether the folder is known.
func (k *Keeper) askRuntime(ctx context.Context) bool {
	if k.dir != "" && time.Since(k.asked) < askAgain {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, k.o.Period)
	defer cancel()
	resp, err := k.o.Runtime.Status(ctx, true)
	if err == nil {
		var dir string
		dir, k.bins = folders(resp.Info["config"])
		k.told = k.o.Dir != "" || dir != ""
		k.dir, k.asked = cmp.Or(k.o.Dir, dir, k.usual), time.Now()
	}
	return k.dir != ""
}

// folders reads containerd's configuration, as its verbose status has it.
func folders(config string) (dir string, bins []string) {
	var c struct {
		CNI struct {
			ConfDir string   `json:"confDir"`
			BinDir  string   `json:"binDir"`
			BinDirs []string `json:"binDirs"`
		} `json:"cni"`
	}
	if json.Unmarshal([]byte(config), &c) != nil {
		return "", nil
	}
	bins = c.CNI.BinDirs
	if c.CNI.BinDir != "" {
		bins = append(bins, c.CNI.BinDir)
	}
	return c.CNI.ConfDir, bins
}
