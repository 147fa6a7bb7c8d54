package push

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/devicev1"
	"github.com/skerry/skerry/mappers/device"
)

// Desired is the view of what the cluster wants; *store.Desired implements it.
type Desired interface {
	Get(key wire.Key) (wire.Object, bool)
	List(kind wire.Kind) []wire.Object
}

// Watch tells of changes of Devices; *store.Watch implements it.
type Watch interface {
	C() <-chan struct{}
	Take() []wire.Key
}

// Options for New. Desired, Watch and the limits are required.
type Options struct {
	Desired Desired
	Watch   Watch            // of Devices
	History *history.History // nil: all values wait in memory
	// Credentials is the path of the file of credentials; there need not be one.
	Credentials string
	Targets     int           // at most
	Values      int           // in a batch, at most
	Interval    time.Duration // how long the first value of a batch waits for others
	Queue       int           // values of each target that wait in memory, at most
	Log         *slog.Logger  // nil: slog.Default()
}

const (
	// forgetAfter is how long the cursor of a target that no Device names any more is kept: a Device that is deleted and made again goes on where it was.
	forgetAfter = time.Hour
	rereadAfter = 10 * time.Second
)

// property names one property of a device.
type property struct{ namespace, device, name string }

// Pusher runs the targets.
type Pusher struct {
	opt Options
	log *slog.Logger

	mu       sync.Mutex
	methods  map[wire.Key][]route // of each Device
	by       map[property][]*destination
	targets  map[string]*destination
	unwanted map[string]time.Time // cursors that nobody uses, since when
	refused  map[string]string    // targets that are not run, and why

	ctx     context.Context // of Run; nil: not running
	running sync.WaitGroup
}

// route is a property's way to a target.
type route struct {
	property property
	target   target
}

// destination is a target that is run.
type destination struct {
	name     string
	endpoint endpoint
	options  map[property]*options // guarded by Pusher.mu
	queue    *queue
	lanes    []*lane // guarded by Pusher.mu
	stop     context.CancelFunc
	done     *sync.WaitGroup
}

// New returns a Pusher.
func New(opt Options) *Pusher {
	p := &Pusher{
		opt: opt, log: opt.Log, methods: map[wire.Key][]route{}, by: map[property][]*destination{}, targets: map[string]*destination{},
		unwanted: map[string]time.Time{}, refused: map[string]string{},
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	return p
}

// Check judges a pushMethod that stands at path.
func (p *Pusher) Check(path string, method map[string]any) error {
	_, err := parse(path, method)
	return err
}

// Run pushes until ctx ends.
func (p *Pusher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	p.opt.Watch.Take() // what changed until now is in the view
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	defer func() {
		cancel()
		p.mu.Lock()
		p.ctx, p.targets, p.by, p.methods = nil, map[string]*destination{}, map[property][]*destination{}, map[wire.Key][]route{}
		p.mu.Unlock()
		p.running.Wait()
	}()
	unread := map[wire.Key]bool{}
	for _, obj := range p.opt.Desired.List(wire.KindDevice) {
		p.take(obj.Key, obj, true, unread)
	}
	changed, tick := true, time.NewTicker(rereadAfter)
	defer tick.Stop()
	for first := true; ; {
		// A target must not pass over values of a Device that cannot be read yet; but one that stays so does not hold up the others.
		if changed && (len(unread) == 0 || !first) {
			p.apply(ctx)
			changed = false
		}
		keys := slices.Collect(maps.Keys(unread))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			first = false
			p.forget()
		case <-p.opt.Watch.C():
			keys = p.opt.Watch.Take()
		}
		for _, key := range keys {
			obj, ok := p.opt.Desired.Get(key)
			changed = p.take(key, obj, ok, unread) || changed
		}
	}
}

// take reads the pushMethods of a Device, and tells whether they changed.
func (p *Pusher) take(key wire.Key, obj wire.Object, there bool, unread map[wire.Key]bool) (changed bool) {
	delete(unread, key)
	var routes []route
	switch {
	case !there || obj.Absent:
	case len(obj.Body) == 0:
		unread[key] = true
		return false
	case bytes.Contains(obj.Body, []byte("pushMethod")): // most Devices have none, and need not be decoded
		var ok bool
		if routes, ok = routesOf(obj.Body); !ok {
			return false // the device host says so; what was known goes on
		}
	}
	if reflect.DeepEqual(routes, p.methods[key]) {
		return false
	}
	if p.methods[key] = routes; len(routes) == 0 {
		delete(p.methods, key)
	}
	return true
}

func routesOf(body []byte) (routes []route, ok bool) {
	d, err := devicev1.DecodeDevice(body)
	if err != nil {
		return nil, false
	}
	for i := range d.Spec.Properties {
		dp := &d.Spec.Properties[i]
		if dp.PushMethod == nil {
			continue
		}
		targets, _ := parse("", dp.PushMethod) // what is wrong is in the Device's conditions
		for _, t := range targets {
			routes = append(routes, route{property{d.Metadata.Namespace, d.Metadata.Name, dp.Name}, t})
		}
	}
	return routes, true
}

// apply starts and stops targets, so that those run that Devices name.
func (p *Pusher) apply(ctx context.Context) {
	wanted := map[string]*destination{}
	for _, key := range slices.Sorted(maps.Keys(p.methods)) {
		for _, r := range p.methods[key] {
			name := r.target.name()
			d := wanted[name]
			if d == nil {
				d = &destination{name: name, endpoint: r.target.endpoint, options: map[property]*options{}}
				wanted[name] = d
			}
			if d.options[r.property] == nil {
				d.options[r.property] = r.target.opt
			}
			d.endpoint.timeout = max(d.endpoint.timeout, r.target.timeout)
		}
	}
	var stopped []*destination
	p.mu.Lock()
	for name, d := range p.targets {
		if w := wanted[name]; w == nil || w.endpoint != d.endpoint {
			d.stop()
			stopped = append(stopped, d)
			delete(p.targets, name)
		}
	}
	p.mu.Unlock()
	for _, d := range stopped {
		d.done.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.refused)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if d := p.targets[name]; d != nil {
			d.options = wanted[name].options
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) { // those that run go before new ones
		if p.targets[name] == nil {
			p.begin(ctx, wanted[name])
		}
	}
	p.by = map[property][]*destination{}
	for _, d := range p.targets {
		for prop := range d.options {
			p.by[prop] = append(p.by[prop], d)
		}
	}
}

// begin starts a target. The caller holds mu.
func (p *Pusher) begin(ctx context.Context, d *destination) {
	if len(p.targets) >= p.opt.Targets {
		why := fmt.Sprintf("it would be one too many: devices.push.maxTargets is %d on this gateway", p.opt.Targets)
		p.refused[d.name] = why
		p.log.Error("a target is not pushed to", "target", d.name, "why", why)
		return
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.done = &sync.WaitGroup{}
	d.queue = newQueue(p.opt.Queue)
	p.targets[d.name] = d
	p.start(ctx, d, "memory", d.queue)
	if p.opt.History == nil {
		return
	}
	r, err := p.opt.History.Reader(d.name)
	if err != nil {
		p.refused[d.name] = err.Error()
		p.log.Error("a target gets nothing from the history", "target", d.name, "error", err)
		return
	}
	p.start(ctx, d, "history", ring{r})
}

func (p *Pusher) start(ctx context.Context, d *destination, from string, src source) {
	e := d.endpoint
	l := &lane{
		endpoint: e, from: from, src: src, values: p.opt.Values, interval: p.opt.Interval, log: p.log.With("target", d.name),
		dial: func() (sender, error) {
			c, err := findCredential(p.opt.Credentials, e.address)
			if err != nil {
				return nil, err
			}
			return protocols()[e.kind].dial(e, c)
		},
		route: func(namespace, device, name string) *options {
			p.mu.Lock()
			defer p.mu.Unlock()
			return d.options[property{namespace, device, name}]
		},
	}
	d.lanes = append(d.lanes, l)
	p.running.Add(1)
	d.done.Go(func() {
		defer p.running.Done()
		l.run(ctx)
	})
}

// forget drops the cursors that nobody has used for a while.
func (p *Pusher) forget() {
	if p.opt.History == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, t := range p.opt.History.Stats().Targets {
		since, known := p.unwanted[t.Name]
		switch {
		case !strings.HasPrefix(t.Name, cursorPrefix):
		case p.targets[t.Name] != nil || p.refused[t.Name] != "":
			delete(p.unwanted, t.Name)
		case !known:
			p.unwanted[t.Name] = now
		case now.Sub(since) >= forgetAfter && p.opt.History.Forget(t.Name):
			delete(p.unwanted, t.Name)
			p.log.Info("a target that no Device names any more is forgotten", "target", t.Name)
		}
	}
}

// Offer takes a value of a property with a pushMethod that the history does not keep. It never blocks: of values that wait too long the newest stay.
func (p *Pusher) Offer(namespace, device, name string, v device.Value) {
	p.mu.Lock()
	to := p.by[property{namespace, device, name}]
	p.mu.Unlock()
	for _, d := range to {
		d.queue.put(history.Entry{Namespace: namespace, Device: device, Property: name, Value: v})
	}
}

// TargetStatus is the state of one target. Counters are since the agent started.
type TargetStatus struct {
	Name       string    `json:"name"`
	Kind       string    `json:"kind"`
	Address    string    `json:"address"` // as the file of credentials names it
	From       string    `json:"from"`    // history or memory: where its values wait
	Properties int       `json:"properties"`
	Waiting    uint64    `json:"waiting"` // values; from the history: of all devices, those for other targets included
	LagSeconds float64   `json:"lagSeconds"`
	Sent       uint64    `json:"sent"`
	Refused    uint64    `json:"refused"` // values that the target does not accept
	Skipped    uint64    `json:"skipped"` // values that the target has no form for
	Dropped    uint64    `json:"dropped"` // values that were lost before they could be sent: overwritten, or too many for the queue
	Failures   uint64    `json:"failures"`
	Failing    time.Time `json:"failing"` // since when nothing is taken; zero: all is well
	LastSent   time.Time `json:"lastSent"`
	LastError  string    `json:"lastError"`
	LastLoss   string    `json:"lastLoss"` // why values were refused or skipped last
}

// Status lists the targets by name. A target has a line for the history, and one for memory if it was ever used.
func (p *Pusher) Status() []TargetStatus {
	pending := map[string]history.TargetStats{}
	if p.opt.History != nil {
		for _, t := range p.opt.History.Stats().Targets {
			pending[t.Name] = t
		}
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []TargetStatus
	for name, d := range p.targets {
		for _, l := range d.lanes {
			s := l.status(now)
			s.Name, s.Properties = name, len(d.options)
			if l.from == "history" {
				s.Waiting, s.Dropped = pending[name].Pending, pending[name].Lost
			} else {
				waiting, dropped := d.queue.figures()
				s.Waiting += uint64(waiting) //nolint:gosec // not negative
				s.Dropped = dropped
				if p.opt.History != nil && s.Waiting+s.Sent+s.Dropped+s.Refused+s.Skipped+s.Failures == 0 {
					continue
				}
			}
			out = append(out, s)
		}
	}
	for name, why := range p.refused {
		out = append(out, TargetStatus{Name: name, LastError: why})
	}
	slices.SortFunc(out, func(a, b TargetStatus) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.From, b.From)) })
	return out
}

func (l *lane) status(now time.Time) TargetStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := TargetStatus{
		Kind: l.endpoint.kind, Address: l.endpoint.address, From: l.from, Waiting: uint64(l.st.inHand), Sent: l.st.sent, Refused: l.st.refused, Skipped: l.st.skipped, //nolint:gosec // not negative
		Failures: l.st.failures, Failing: l.st.failing, LastSent: l.st.lastSent, LastError: l.st.err, LastLoss: l.st.told,
	}
	if !l.st.oldest.IsZero() {
		s.LagSeconds = max(0, now.Sub(l.st.oldest).Seconds())
	}
	return s
}
