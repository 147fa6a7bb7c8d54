package dmi

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/mappers/device"
)

// Options are a Registry's. Zero values mean the defaults.
type Options struct {
	BuiltIn     []string      // protocols that mappers cannot have
	MaxMappers  int           // default 32
	MaxDevices  int           // of one mapper; default 1000
	MaxReports  int           // a second of one mapper; default 2000
	CallTimeout time.Duration // default 5 s
	ProbeEvery  time.Duration // how often an idle mapper is asked whether it lives; default 15 s
	// Save keeps the mappers for the next start; nil: they are forgotten. It is called by one goroutine at a time.
	Save func([]Saved) error
	Log  *slog.Logger // nil: slog.Default()
}

// Registry knows the devices for mappers, and the mappers that have registered.
type Registry struct {
	opt Options
	log *slog.Logger

	mu      sync.Mutex
	drivers map[string]*Driver // by protocol in lower case
	homes   map[string]*Driver // where a device was kept last
	synced  bool               // all Devices are known: what a mapper holds beyond them goes
	ctx     context.Context    //nolint:containedctx // of Run; nil: it does not run
	links   sync.WaitGroup

	saving sync.Mutex
}

// NewRegistry returns a registry.
func NewRegistry(o Options) *Registry {
	o.MaxMappers, o.MaxDevices, o.MaxReports = cmp.Or(o.MaxMappers, 32), cmp.Or(o.MaxDevices, 1000), cmp.Or(o.MaxReports, 2000)
	o.CallTimeout, o.ProbeEvery = cmp.Or(o.CallTimeout, 5*time.Second), cmp.Or(o.ProbeEvery, 15*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Registry{opt: o, log: o.Log, drivers: make(map[string]*Driver), homes: make(map[string]*Driver)}
}

// Driver returns the driver of a protocol, always the same for the same name. nil: the protocol is not for mappers.
func (r *Registry) Driver(protocol string) device.Driver {
	if d := r.driver(protocol); d != nil {
		return d
	}
	return nil
}

func (r *Registry) driver(protocol string) *Driver {
	name := strings.ToLower(protocol)
	if name == "" || r.builtIn(name) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.drivers[name]
	if d == nil {
		d = &Driver{registry: r, name: name, entries: make(map[string]*entry), models: make(map[string]*model)}
		r.drivers[name] = d
	}
	return d
}

func (r *Registry) builtIn(protocol string) bool {
	return slices.ContainsFunc(r.opt.BuiltIn, func(b string) bool { return strings.EqualFold(b, protocol) })
}

func (r *Registry) all() []*Driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Driver, 0, len(r.drivers))
	for _, d := range r.drivers {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *Driver) int { return cmp.Compare(a.name, b.name) })
	return out
}

// Keep says that there is a device, or another version of one, with its model. A device whose protocol is built in is dropped.
func (r *Registry) Keep(d Device, m Model) {
	key := keyOf(d.Namespace, d.Name)
	home := r.driver(d.Protocol)
	r.mu.Lock()
	was := r.homes[key]
	if home != nil {
		r.homes[key] = home
	} else {
		delete(r.homes, key)
	}
	r.mu.Unlock()
	if was != nil && was != home {
		was.drop(key)
	}
	if home != nil {
		home.keep(key, d, m)
	}
}

// Drop says that a device is gone.
func (r *Registry) Drop(namespace, name string) {
	key := keyOf(namespace, name)
	r.mu.Lock()
	was := r.homes[key]
	delete(r.homes, key)
	r.mu.Unlock()
	if was != nil {
		was.drop(key)
	}
}

// Synced says that Keep has been called for all Devices that there are: from now on, what a mapper holds beyond them is removed from it.
func (r *Registry) Synced() {
	r.mu.Lock()
	r.synced = true
	r.mu.Unlock()
	for _, d := range r.all() {
		d.wakeLink()
	}
}

func (r *Registry) isSynced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.synced
}

// Run keeps the mappers in line until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	for _, d := range r.all() {
		d.mu.Lock()
		if d.link != nil {
			r.start(d.link)
		}
		d.mu.Unlock()
	}
	<-ctx.Done()
	r.mu.Lock()
	r.ctx = nil
	r.mu.Unlock()
	r.links.Wait()
	return nil
}

// start runs a link if the registry runs, once.
func (r *Registry) start(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil || r.ctx.Err() != nil {
		return
	}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(r.ctx)
	r.links.Go(func() { l.run(ctx) })
}

// Restore takes over a mapper that was registered before the agent was started.
func (r *Registry) Restore(s Saved, m Mapper, lost <-chan struct{}) {
	d := r.driver(s.Protocol)
	if d == nil {
		r.log.Warn("a mapper of an earlier start has a protocol that is built in now; it is forgotten", "mapper", s.Name, "protocol", s.Protocol)
		return
	}
	l := newLink(d, Registration{Name: s.Name, Version: s.Version, Protocol: s.Protocol, Address: s.Address, Caller: Caller{s.UID}, Mapper: m, Lost: lost})
	for _, key := range s.Devices {
		l.devices[key] = &held{unsure: true}
	}
	for _, key := range s.Models {
		l.models[key] = &held{unsure: true}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.link = l
	r.start(l)
}

// Register takes over a mapper. It returns what the mapper shall hold if it wants to know (withData), and else has it sent. room bounds the answer:
// what it refuses is sent afterwards.
func (r *Registry) Register(reg Registration, withData bool, room func(models []Model, devices []Device) bool) ([]Model, []Device, error) {
	if err := r.judge(reg); err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	running := r.ctx != nil
	r.mu.Unlock()
	if !running {
		return nil, nil, fmt.Errorf("%w: it is starting or stopping; register again in a second", ErrStopped)
	}
	d := r.driver(reg.Protocol)
	models, devices, err := d.register(reg, withData, room)
	if err != nil {
		return nil, nil, err
	}
	r.log.Info("a mapper has registered", "mapper", reg.Name, "version", reg.Version, "protocol", d.name, "socket", reg.Address, "uid", reg.Caller.UID, "devices", len(devices))
	r.save()
	return models, devices, nil
}

// Limits of what a mapper says of itself.
const maxName = 128

func (r *Registry) judge(reg Registration) error {
	bad := func(field, value, allowed string) error {
		return fmt.Errorf("%w: mapper.%s: %q: %s", ErrInvalid, field, clip(value), allowed)
	}
	printable := func(s string) bool {
		return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
	}
	switch {
	case !printable(reg.Name):
		return bad("name", reg.Name, fmt.Sprintf("allowed are 1 to %d printable ASCII characters without blanks", maxName))
	case !printable(reg.Protocol):
		return bad("protocol", reg.Protocol, fmt.Sprintf("allowed are 1 to %d printable ASCII characters without blanks, as in a Device's spec.protocol.protocolName", maxName))
	case len(reg.Version) > maxName:
		return bad("version", reg.Version, fmt.Sprintf("at most %d bytes", maxName))
	case r.builtIn(reg.Protocol):
		return fmt.Errorf("%w: protocol %q is spoken by a driver that is built into the agent: stop this mapper, or give its protocol another name in its configuration and in the Devices", ErrTaken, reg.Protocol)
	}
	mappers := 0
	for _, d := range r.all() {
		d.mu.Lock()
		if d.link != nil && !strings.EqualFold(d.name, reg.Protocol) {
			mappers++
		}
		d.mu.Unlock()
	}
	if mappers >= r.opt.MaxMappers {
		return fmt.Errorf("%w: %d mappers have registered already", ErrTooMany, mappers)
	}
	return nil
}

// home returns the driver that has a device.
func (r *Registry) home(namespace, name string) (*Driver, error) {
	r.mu.Lock()
	d := r.homes[keyOf(namespace, name)]
	r.mu.Unlock()
	if d == nil {
		return nil, fmt.Errorf("%w: %s/%s: this gateway has no Device of this name for a mapper", ErrNoDevice, clip(namespace), clip(name))
	}
	return d, nil
}

// save keeps the mappers for the next start.
func (r *Registry) save() {
	if r.opt.Save == nil {
		return
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	var list []Saved
	for _, d := range r.all() {
		if s, ok := d.saved(); ok {
			list = append(list, s)
		}
	}
	if err := r.opt.Save(list); err != nil {
		r.log.Error("the list of mappers cannot be saved: after a restart of the agent they have to register again", "error", err)
	}
}

// Status lists the mappers that have registered.
func (r *Registry) Status() []Status {
	var out []Status
	for _, d := range r.all() {
		d.mu.Lock()
		if l := d.link; l != nil {
			out = append(out, Status{
				Name: l.reg.Name, Version: l.reg.Version, Protocol: d.name, Address: l.reg.Address, Devices: len(l.devices),
				Reports: l.reports, Refused: l.refused, Trouble: l.trouble,
			})
		}
		d.mu.Unlock()
	}
	return out
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
