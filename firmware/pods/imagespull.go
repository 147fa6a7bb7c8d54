package pods

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// PullProgress tells how much of what is being pulled is there, by what it is. *containerd.Client can tell; CRI cannot.
type PullProgress func(ctx context.Context) (map[string]PullPart, error)

// PullPart is one part of an image that is being pulled. Total is 0 where it is not known yet.
type PullPart struct{ Have, Total int64 }

// PartOwner tells of which repositories (as docker.io/library/busybox, without the registry's port) a part is that is being pulled; none if nobody
// knows.
type PartOwner func(ctx context.Context, part string) ([]string, error)

const (
	progressFirst = 30 * time.Second // of a pull; shorter ones need no word in between
	progressEvery = time.Minute
	progressAsk   = 5 * time.Second
	holdPatience  = 10 * time.Minute // with an agent that is short of memory
)

// pulls fetches images for all pods: at most so many at a time, and one for those that want the same with the same credentials. A pull goes on
// as long as somebody waits for it.
type pulls struct {
	ctx      context.Context //nolint:containedctx // the manager's: no pull outlives it
	rt       ImageRuntime
	progress PullProgress // nil: nobody can tell
	owner    PartOwner    // nil: nobody can tell
	stall    time.Duration
	held     func() <-chan struct{} // Options.PullsHeld
	slots    chan struct{}
	pulled   func(ctx context.Context, ref string) // nil: nobody wants to know what has been fetched
	spawn    func(func())                          // runs a goroutine that the manager waits for
	log      *slog.Logger

	mu  sync.Mutex
	now map[string]*pull
}

// pull is one image on its way.
type pull struct {
	name   string
	done   chan struct{} // closed when pulled and err are set
	cancel context.CancelCauseFunc

	waiters int // guarded by pulls.mu
	active  bool

	pulled
	err error

	mu   sync.Mutex
	text string // how far it is
}

// pulled is an image that was fetched.
type pulled struct {
	ref  string
	used credential // what opened the registry; zero: none
	took time.Duration
}

func newPulls(ctx context.Context, o *Options, spawn func(func())) *pulls {
	return &pulls{ctx: ctx, rt: o.Runtime, progress: o.PullProgress, owner: o.PartOwner, stall: o.PullStall, held: o.PullsHeld, slots: make(chan struct{}, max(o.ParallelPulls, 1)),
		spawn: spawn, log: o.Log, now: map[string]*pull{}}
}

// get fetches an image. creds are tried in order; none is a pull without credentials. said is told, now and then, how far it is.
func (p *pulls) get(ctx context.Context, spec *cri.ImageSpec, creds []credential, sandbox *cri.PodSandboxConfig, said func(string)) (pulled, error) {
	one := p.join(spec, creds, sandbox)
	defer p.leave(one)
	tick := time.NewTicker(progressFirst)
	defer tick.Stop()
	for {
		select {
		case <-one.done:
			return one.pulled, one.err
		case <-ctx.Done():
			return pulled{}, ctx.Err()
		case <-tick.C:
			tick.Reset(progressEvery)
			one.mu.Lock()
			text := one.text
			one.mu.Unlock()
			said(text)
		}
	}
}

// join returns the pull that fetches an image, and starts it if there is none.
func (p *pulls) join(spec *cri.ImageSpec, creds []credential, sandbox *cri.PodSandboxConfig) *pull {
	key := pullKey(spec, creds)
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.now[key]; one != nil {
		one.waiters++
		return one
	}
	ctx, cancel := context.WithCancelCause(p.ctx) // as long as somebody waits
	one := &pull{name: spec.Image, done: make(chan struct{}), cancel: cancel, waiters: 1, text: "waiting for other pulls"}
	p.now[key] = one
	p.spawn(func() {
		defer cancel(nil)
		p.run(ctx, one, spec, creds, sandbox)
		p.mu.Lock()
		one.active = false
		if p.now[key] == one {
			delete(p.now, key)
		}
		p.mu.Unlock()
		close(one.done)
	})
	return one
}

// leave is called once by everybody who has joined. The last one ends a pull that is still under way; who comes then begins a new one.
func (p *pulls) leave(one *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one.waiters--; one.waiters > 0 {
		return
	}
	one.cancel(nil)
	for key, other := range p.now {
		if other == one {
			delete(p.now, key)
		}
	}
}

func (p *pulls) run(ctx context.Context, one *pull, spec *cri.ImageSpec, creds []credential, sandbox *cri.PodSandboxConfig) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		one.err = ctx.Err()
		return
	}
	free := sync.OnceFunc(func() { <-p.slots })
	defer free()
	if err := p.wait(ctx, one); err != nil {
		one.err = err
		return
	}
	p.mu.Lock()
	one.active = true
	p.mu.Unlock()
	one.say("the registry has not sent anything yet")
	var watch sync.WaitGroup
	watching, end := context.WithCancel(ctx)
	defer watch.Wait()
	defer end()
	if p.progress != nil {
		w := &pullWatch{p: p, one: one, free: free, parts: map[string]partSeen{}}
		w.look(ctx) // what earlier pulls have left is no progress
		watch.Go(func() { w.run(watching) })
	}
	begin := time.Now()
	one.ref, one.used, one.err = p.tryAll(ctx, spec, creds, sandbox)
	one.took = time.Since(begin)
	if one.err == nil && p.pulled != nil {
		p.pulled(ctx, one.ref)
	}
	if cause := context.Cause(ctx); one.err != nil && ctx.Err() != nil && p.ctx.Err() == nil && !errors.Is(cause, context.Canceled) {
		one.err = cause
	}
}

// wait returns when pulls may begin.
func (p *pulls) wait(ctx context.Context, one *pull) error {
	patience := time.NewTimer(holdPatience)
	defer patience.Stop()
	for p.held != nil {
		again := p.held()
		if again == nil {
			break
		}
		one.say("waiting until the agent has enough memory")
		select {
		case <-again:
		case <-patience.C: // the runtime pulls, and not the agent: a memory that stays short must not keep pods from starting for ever
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tryAll tries one set of credentials after the other.
func (p *pulls) tryAll(ctx context.Context, spec *cri.ImageSpec, creds []credential, sandbox *cri.PodSandboxConfig) (ref string, used credential, err error) {
	if len(creds) == 0 {
		ref, err = p.rt.PullImage(ctx, spec, nil, sandbox)
		return ref, credential{}, err
	}
	var errs []error
	for _, c := range creds {
		ref, err := p.rt.PullImage(ctx, spec, c.auth, sandbox)
		if err == nil || runtimeGone(err) || ctx.Err() != nil {
			return ref, c, err
		}
		if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	return "", credential{}, errors.Join(errs...)
}

func (o *pull) say(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = text
}

func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }

// pullKey is the same for pulls that may be one: who has other credentials must show them to the registry, and who has the same from another
// secret is told so.
func pullKey(spec *cri.ImageSpec, creds []credential) string {
	h := fnv.New128a()
	for _, c := range creds {
		_, _ = h.Write(fmt.Appendf(nil, "%s %q %q %q\n", c.hash(), c.secret.UID, c.secret.Namespace, c.secret.Name))
	}
	return spec.Image + "\x00" + spec.RuntimeHandler + "\x00" + string(h.Sum(nil))
}

// PullImage fetches an image ahead of the pods that need it, unless it is there; auths are tried in order. The image counts as pulled by this agent:
// if the disk fills up and no pod wants it, it may be removed; and if credentials were needed, pods need the same ones.
func (m *Manager) PullImage(ctx context.Context, ref string, auths []*cri.AuthConfig) error {
	if err := m.runtimeUp(); err != nil {
		return err
	}
	spec := &cri.ImageSpec{Image: ref, UserSpecifiedImage: ref}
	have, err := m.o.Runtime.ImageStatus(ctx, spec, false)
	if err != nil {
		return fmt.Errorf("look for image %s: %w", ref, err)
	}
	if have.Image != nil {
		return nil
	}
	var creds []credential
	for _, auth := range auths {
		creds = append(creds, credential{auth: auth})
	}
	if len(creds) > 0 {
		if err := m.access.begin(ctx, ref); err != nil {
			return err
		}
		defer m.access.end(ctx, ref)
	}
	got, err := m.pulls.get(ctx, spec, creds, nil, func(text string) { m.o.Log.Info("pulling an image ahead", "image", ref, "progress", text) })
	if err != nil {
		return fmt.Errorf("pull image %s: %w", ref, err)
	}
	if have, err = m.o.Runtime.ImageStatus(ctx, &cri.ImageSpec{Image: got.ref, UserSpecifiedImage: ref}, false); err != nil || have.Image == nil {
		return fmt.Errorf("image %s was pulled, but the runtime does not have it: %w", ref, orNotFound(err))
	}
	m.images.note(have.Image.ID, ref, false)
	m.access.pulled(ctx, have.Image.ID, ref, got.used)
	return nil
}

// prePull fetches the images that the configuration names, until they are all there. One that cannot be had does not keep the others.
func (m *Manager) prePull(ctx context.Context) {
	var b backoff
	for left := slices.Clone(m.o.PrePull); len(left) > 0; {
		var failed []string
		errs := map[string]error{}
		for _, ref := range left {
			if err := m.PullImage(ctx, ref, nil); err != nil {
				failed, errs[ref] = append(failed, ref), err
			}
			if ctx.Err() != nil {
				return
			}
		}
		if left = failed; len(left) == 0 {
			return
		}
		delay := b.fail(time.Now(), backoffFirst, backoffMax)
		for _, ref := range left {
			m.o.Log.Warn("an image of pods.images.prePull cannot be had yet", "image", ref, "error", errs[ref], "again_in", delay)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}
