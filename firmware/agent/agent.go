package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/firmware/budget"
	"github.com/skerry/skerry/firmware/cni"
	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/containerd"
	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/dmi"
	"github.com/skerry/skerry/firmware/durable"
	"github.com/skerry/skerry/firmware/health"
	"github.com/skerry/skerry/firmware/health/diagnose"
	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/kubeletapi"
	"github.com/skerry/skerry/firmware/link"
	"github.com/skerry/skerry/firmware/mqtt"
	"github.com/skerry/skerry/firmware/orphans"
	"github.com/skerry/skerry/firmware/pods"
	"github.com/skerry/skerry/firmware/proxy"
	"github.com/skerry/skerry/firmware/push"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/tokens"
	"github.com/skerry/skerry/firmware/update"
	"github.com/skerry/skerry/firmware/userids"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/join"
	"github.com/skerry/skerry/mappers/all"
	"github.com/skerry/skerry/mappers/device"
)

// Agent is a running skerryd. It lives for one call of Run.
type Agent struct {
	cfg     config.Config
	board   board.Choice
	limits  budget.Limits
	shed    shedding
	updates updates
	log     *slog.Logger
	started time.Time
	lines   *diagnose.Ring // the newest of log
	beats   *beats
	health  liveness
	disk    disk

	store       *store.Store
	desired     *store.Desired
	outbox      *store.Outbox
	events      *recorder
	link        *link.Client
	dial        func(ctx context.Context, network, address string) (net.Conn, error) // to relays; nil: directly
	renewer     *identity.Renewer
	runtime     *cri.Client
	containerd  *containerd.Client // of the same socket; other runtimes answer that they do not know it
	pods        *pods.Manager
	tokens      *tokens.Keeper // nil without pods
	kubelet     *kubeletapi.Server
	network     *cni.Keeper // nil without pods
	devices     *devices.Host
	dmi         *dmi.Service     // nil: it is off
	drivers     []device.Driver  // of devices
	history     *history.History // nil without devices, or if it is off or cannot be opened
	noHistory   string           // why history is nil, and what to do
	push        *push.Pusher     // nil without devices, or if it is off
	sealer      store.Sealer
	mqtt        *mqtt.Broker // nil: off
	mqttDevices *mqtt.Driver // nil without mqtt
	metrics     *meters
	whole       *completeness
}

// Run runs the agent until ctx ends. Its error says why it could not start: a configuration that contradicts the
// gateway's identity, or a store that cannot be opened.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) (err error) {
	ring := diagnose.NewRing(logKept)
	log = ring.Also(log)
	a := &Agent{cfg: cfg, log: log, lines: ring, started: time.Now(), beats: newBeats()}
	if err := a.chooseBoard("/"); err != nil {
		return err
	}
	a.applyBudget()
	if err := a.checkIdentity(); err != nil {
		return err
	}
	ends, err := a.beginHealth(ctx)
	if err != nil {
		return err
	}
	ended := false // it stays false in a panic, which must not pass for an orderly end
	defer func() { ends(ended || err != nil) }()
	a.newDisk("/")
	if err := a.openStore(ctx); err != nil {
		return errors.Join(err, a.withoutStore(ctx))
	}
	defer func() {
		if err := a.store.Close(); err != nil {
			log.Error("closing the store: what was not yet written is lost", "error", err)
		}
	}()
	a.events = newRecorder(a.cfg.Node.Name, a.outbox, a.log)
	defer a.events.close()
	a.openJournal()
	defer a.closeHistory()
	if err := a.build(ctx); err != nil {
		return err
	}
	log.Info("the board", "board", a.board.Name, "why", a.board.Why, "from", a.board.Source)
	log.Info("the agent is starting", "node", cfg.Node.Name, "version", skerry.Version, "relays", cfg.Relay.Addresses,
		"pods", len(a.desired.List(wire.KindPod)), "devices", len(a.desired.List(wire.KindDevice)))
	a.ready(ctx)
	supervise(ctx, log, a.restarted, a.tasks()...)
	a.runtime.Close()
	log.Info("the agent has stopped; pods go on running", "node", cfg.Node.Name)
	ended = true
	return nil
}

// checkIdentity refuses to run under another name than the one this gateway was enrolled with. No identity yet is no
// error: pods and devices that the store knows run all the same, and the link says what to do.
func (a *Agent) checkIdentity() error {
	id, err := identity.Load(a.cfg.IdentityDir)
	switch {
	case errors.Is(err, identity.ErrNotEnrolled):
		a.log.Warn("this gateway has not joined yet: run `skerryd join --token TOKEN`; the token comes from `skerryctl token create --node "+a.cfg.Node.Name+"`",
			"identityDir", a.cfg.IdentityDir)
		return nil
	case err != nil:
		a.log.Error("the identity cannot be read; the agent goes on from its store, but cannot reach the relay", "error", err)
		return nil
	}
	if id.Node() != a.cfg.Node.Name {
		return fmt.Errorf("node.name is %q, but this gateway joined as %q (%s): set node.name to %q, or join anew with a token for %q",
			a.cfg.Node.Name, id.Node(), a.cfg.IdentityDir, id.Node(), a.cfg.Node.Name)
	}
	return nil
}

func (a *Agent) openStore(ctx context.Context) error {
	if err := durable.MakeDir(a.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make dataDir %s: %w", a.cfg.DataDir, err)
	}
	sealer, err := store.OpenKeyFile(filepath.Join(a.cfg.DataDir, "seal.key"))
	if err != nil {
		return fmt.Errorf("the key of the store: %w", err)
	}
	a.sealer = sealer
	a.store, err = store.Open(ctx, store.Options{Dir: filepath.Join(a.cfg.DataDir, "store"), Sealer: sealer, Log: a.log, Window: a.cfg.Store.Window, Beat: a.beats.store})
	if err != nil {
		return fmt.Errorf("open the store in %s: %w", a.cfg.DataDir, err)
	}
	a.desired, err = store.NewDesired(a.store)
	if err == nil {
		a.outbox, err = store.NewOutbox(a.store, store.OutboxLimits{})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("read the store in %s: %w", a.cfg.DataDir, err), a.store.Close())
	}
	return nil
}

func (a *Agent) build(ctx context.Context) error {
	cfg := a.cfg
	if cfg.Relay.Proxy != "" {
		p, err := proxy.Parse(cfg.Relay.Proxy)
		if err != nil {
			return fmt.Errorf("relay.proxy: %w", err)
		}
		a.dial = p.DialContext
	}
	a.renewer = a.newRenewer()
	a.link = link.New(link.Options{
		Addresses: cfg.Relay.Addresses,
		TLS:       a.tls,
		Node:      cfg.Node.Name, Version: skerry.Version,
		Desired: a.desired, Outbox: a.outbox,
		Log:       a.log.With("part", "link"),
		Heartbeat: cfg.Relay.Heartbeat, MaxBackoff: cfg.Relay.MaxBackoff,
		Dial: a.dial, Clock: a.renewer.Heard, Expired: a.renewer.Refused,
		Alive: a.beats.link.Alive,
	})
	a.whole = newCompleteness(ctx, a.store, func() (uint64, bool) {
		st := a.link.Status()
		return st.Sessions, st.InSync
	}, a.log)
	a.runtime = cri.New(cri.Options{Socket: cfg.Runtime.Endpoint})
	a.containerd = containerd.New(a.runtime)
	var err error
	if cfg.Pods.Enabled {
		if a.tokens, err = a.openTokens(ctx); err != nil {
			return err
		}
		if a.network, err = a.newNetwork(); err != nil {
			return err
		}
		if a.pods, err = a.newPods(); err != nil {
			return err
		}
	}
	if a.kubelet, err = a.newKubelet(); err != nil {
		return err
	}
	if cfg.Devices.Enabled {
		a.openHistory()
		a.newPush()
		if a.devices, err = a.newDevices(); err != nil {
			return err
		}
		if err = a.newMQTT(); err != nil {
			return err
		}
	}
	a.metrics = newMeters(a)
	a.newShedding()
	if err := a.newUpdates("/"); err != nil {
		return fmt.Errorf("updates: %w", err)
	}
	return nil
}

func (a *Agent) tls() (*tls.Config, error) {
	id, err := identity.Load(a.cfg.IdentityDir)
	if err != nil {
		return nil, err
	}
	c, err := id.TLSConfig()
	if err != nil {
		return nil, err
	}
	c.Time = a.renewer.Clock(id)
	return c, nil
}

// newRenewer returns what keeps the certificate from running out. The link reads the identity anew for each connection, so
// that a renewed one is used without disturbing the session that is open.
func (a *Agent) newRenewer() *identity.Renewer {
	return identity.NewRenewer(identity.RenewOptions{
		Addresses: a.cfg.Relay.Addresses, Dir: a.cfg.IdentityDir, Dial: a.dial, Log: a.log.With("part", "renew"),
		Failing: a.warnNode("CertificateRenewalFailing"),
	})
}

// nodeAnnotations say what certificate this gateway has, for whoever replaces the CA, why it was started, and how an update goes.
func (a *Agent) nodeAnnotations() map[string]string {
	out := a.health.annotations()
	if st := a.renewer.Status(); st.Issuer != "" {
		out[join.AnnotationCA], out[join.AnnotationNotAfter] = st.Issuer, st.NotAfter.UTC().Format(time.RFC3339)
	}
	if text := a.updates.annotation(); text != "" {
		out[update.AnnotationStatus] = text
	}
	return out
}

func (a *Agent) newPods() (*pods.Manager, error) {
	facts := board.Describe()
	rules, err := a.cfg.Node.Eviction.Rules().Parse()
	if err != nil {
		return nil, fmt.Errorf("node.eviction: %w", err)
	}
	taints, err := a.registerTaints()
	if err != nil {
		return nil, err
	}
	a.beats.pods = a.beats.registry.Component("pods", true, podsWithin)
	return pods.New(pods.Options{
		Alive: a.beats.pods.Alive,
		Node:  a.cfg.Node.Name, Runtime: a.runtime, Socket: a.runtime.Socket(),
		Desired: a.desired,
		Watch:   func(kinds ...wire.Kind) pods.Watch { return a.desired.Watch(kinds...) },
		Reports: a.link, Events: a.events,
		Dir: a.cfg.Pods.RootDir, LogDir: a.cfg.Pods.LogDir, LogSize: int64(a.cfg.Pods.Logs.MaxSize), LogFiles: a.cfg.Pods.Logs.MaxFiles,
		ClusterDomain:   a.cfg.Pods.ClusterDomain,
		ClusterDNS:      a.cfg.Pods.ClusterDNS,
		ResolvConf:      a.cfg.Pods.ResolvConf,
		Network:         a.network.Problem,
		MaxRestartDelay: a.cfg.Pods.MaxRestartDelay,
		ImageHigh:       a.cfg.Pods.Images.High, ImageLow: a.cfg.Pods.Images.Low,
		ParallelPulls: a.cfg.Pods.Images.Parallel, PrePull: a.cfg.Pods.Images.PrePull,
		EndTask: a.containerd.EndTask, PullProgress: pullProgress(a.containerd), PartOwner: a.containerd.Owners, PullStall: a.cfg.Pods.Images.StallTimeout,
		ImageCheck: a.cfg.Pods.Images.Verification, ImageRecords: records{a.store},
		Log:          a.log.With("part", "pods"),
		CgroupParent: a.cfg.Runtime.CgroupParent,
		Version:      kubeletVersion(),
		RouteTo:      a.cfg.Relay.Addresses,
		NodeInfo:     nodeInfo(facts),
		Annotations:  a.nodeAnnotations,
		Conditions:   a.conditions,
		PullsHeld:    a.shed.pullsHeld,
		MaxPods:      int64(a.cfg.Pods.Max),
		PodPids:      a.cfg.Pods.Pids, UnsafeSysctls: a.cfg.Pods.Sysctls, UserIDs: userids.Range(a.cfg.Pods.Users),
		Labels: a.nodeLabels(), Taints: taints, Reserved: reserved(a.cfg.Node.Reserved),
		Eviction: pods.Eviction{
			Thresholds: rules, Transition: max(a.cfg.Node.Eviction.TransitionPeriod, time.Nanosecond), MaxGrace: int64(a.cfg.Node.Eviction.MaxPodGracePeriod / time.Second),
		},
		StaticDir: a.cfg.Pods.StaticDir,
		Complete:  a.whole.Complete,
		Tokens:    a.tokens,
	})
}

func (a *Agent) newDevices() (*devices.Host, error) {
	a.drivers = append(all.Drivers(all.Options{StateDir: a.cfg.DataDir, Log: a.log.With("part", "drivers")}), a.mqttDriver()...)
	r := a.beats.registry
	a.beats.devices, a.beats.view = r.Component("devices", true, devicesWithin), r.Component("device changes", true, viewWithin)
	a.dmi = a.newDMI()
	return devices.New(devices.Options{
		Others: a.otherDrivers(),
		Alive:  a.beats.devices.Alive, Watching: a.beats.view.Alive,
		Drivers: a.drivers,
		Desired: a.desired,
		Watch:   a.desired.Watch(wire.KindDevice, wire.KindDeviceModel),
		Reports: a.link, Events: a.events,
		Twins: twins{a.store}, History: a.deviceHistory(), NoHistory: a.noHistory, Push: a.devicePush(),
		Ports: DevicePorts(a.board.Descriptor, "/"),
		Log:   a.log.With("part", "devices"),
	})
}

func (a *Agent) tasks() []task {
	srv := &health.Server{Address: a.cfg.Metrics.Address, Socket: a.cfg.Socket, Metrics: a.metrics.write, Status: a.status, Log: a.log.With("part", "health"), Pages: a.pages()}
	if a.pods != nil {
		srv.Shutdown = func(ctx context.Context) error {
			a.health.goingDown.Store(true)
			return a.pods.Shutdown(ctx, a.cfg.Node.Shutdown.GracePeriod, a.cfg.Node.Shutdown.GracePeriodCriticalPods)
		}
	}
	list := []task{
		{"store", a.store.Run},
		{"health", srv.Run},
		{"link", a.link.Run},
		{"renew", a.renewer.Run},
		{"complete", a.whole.run},
		{"memory", a.shed.run},
		{"kubelet", a.serveKubelet},
	}
	if a.pods != nil {
		list = append(list, task{"network", a.network.Run}, task{"pods", a.pods.Run}, task{"tokens", a.tokens.Run})
		if after := a.cfg.Runtime.LostAfter; after > 0 {
			list = append(list, task{"orphans", orphans.New(orphans.Options{Runtime: a.runtime, Foreign: a.containerd.Foreign, After: after, Log: a.log.With("part", "orphans")}).Run})
		}
	} else {
		list = append(list, task{"node", func(ctx context.Context) error {
			return reportDevicesOnlyNode(ctx, a.cfg.Node.Name, board.Describe(), nodeExtras{a.nodeLabels(), a.nodeAnnotations, a.conditions}, a.link)
		}})
	}
	if len(a.board.LEDs) > 0 {
		list = append(list, task{"lights", a.showLights})
	}
	if a.disk.guard != nil {
		list = append(list, task{"disk", a.disk.guard.Run})
	}
	if a.updates.updater != nil {
		list = append(list, task{"update", a.updates.updater.Run})
	}
	if a.devices != nil {
		list = append(list, task{"devices", a.devices.Run})
		if a.dmi != nil {
			list = append(list, task{"dmi", a.dmi.Run})
		}
		if a.cfg.Control.Enabled {
			list = append(list, task{"control", a.serveControl})
		}
		if a.history != nil {
			list = append(list, task{"history", a.history.Run})
		}
		if a.push != nil {
			list = append(list, task{"push", a.push.Run})
		}
		if a.mqtt != nil {
			list = append(list, task{"mqtt", a.mqtt.Run})
		}
	}
	return list
}
