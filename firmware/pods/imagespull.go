package pods

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// PullProgress tells how much of what is being pulled is there: bytes by what they are of. *containerd.Client can tell; CRI cannot.
type PullProgress func(ctx context.Context) (map[string]PullPart, error)

// PullPart is one part of an image that is being pulled. Total is 0 where it is not known yet.
type PullPart struct{ Have, Total int64 }

const (
	progressFirst = 30 * time.Second // of a pull; shorter ones need no word in between
	progressEvery = time.Minute
	progressAsk   = 5 * time.Second
)

// pulls fetches images for all pods: at most so many at a time, and one for those that want the same with the same credentials. A pull goes on
// as long as somebody waits for it.
type pulls struct {
	ctx      context.Context //nolint:containedctx // the manager's: no pull outlives it
	rt       ImageRuntime
	progress PullProgress // nil: nobody can tell
	slots    chan struct{}
	spawn    func(func()) // runs a goroutine that the manager waits for
	log      *slog.Logger

	mu  sync.Mutex
	now map[string]*pull
}

// pull is one image on its way.
type pull struct {
	done    chan struct{} // closed when ref, took and err are set
	cancel  context.CancelFunc
	waiters int // guarded by pulls.mu

	ref  string
	took time.Duration
	err  error

	mu   sync.Mutex
	text string // how far it is
}

func newPulls(ctx context.Context, rt ImageRuntime, most int, progress PullProgress, spawn func(func()), log *slog.Logger) *pulls {
	return &pulls{ctx: ctx, rt: rt, progress: progress, slots: make(chan struct{}, max(most, 1)), spawn: spawn, log: log, now: map[string]*pull{}}
}

// get fetches an image. auths are tried in order; none is a pull without credentials. said is told, now and then, how far it is. It returns the
// reference, and how long the pull itself took.
func (p *pulls) get(ctx context.Context, spec *cri.ImageSpec, auths []*cri.AuthConfig, sandbox *cri.PodSandboxConfig, said func(string)) (ref string, took time.Duration, err error) {
	one := p.join(spec, auths, sandbox)
	defer p.leave(one)
	tick := time.NewTicker(progressFirst)
	defer tick.Stop()
	for {
		select {
		case <-one.done:
			return one.ref, one.took, one.err
		case <-ctx.Done():
			return "", 0, ctx.Err()
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
func (p *pulls) join(spec *cri.ImageSpec, auths []*cri.AuthConfig, sandbox *cri.PodSandboxConfig) *pull {
	key := pullKey(spec, auths)
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.now[key]; one != nil {
		one.waiters++
		return one
	}
	ctx, cancel := context.WithCancel(p.ctx) // as long as somebody waits
	one := &pull{done: make(chan struct{}), cancel: cancel, waiters: 1, text: "waiting for other pulls"}
	p.now[key] = one
	p.spawn(func() {
		defer cancel()
		p.run(ctx, one, spec, auths, sandbox)
		p.mu.Lock()
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
	one.cancel()
	for key, other := range p.now {
		if other == one {
			delete(p.now, key)
		}
	}
}

func (p *pulls) run(ctx context.Context, one *pull, spec *cri.ImageSpec, auths []*cri.AuthConfig, sandbox *cri.PodSandboxConfig) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		one.err = ctx.Err()
		return
	}
	one.say("the registry has not sent anything yet")
	var watch sync.WaitGroup
	watching, end := context.WithCancel(ctx)
	defer watch.Wait()
	defer end()
	if p.progress != nil {
		watch.Go(func() { p.watch(watching, one) })
	}
	begin := time.Now()
	one.ref, one.err = p.tryAll(ctx, spec, auths, sandbox)
	one.took = time.Since(begin)
}

// tryAll tries one set of credentials after the other.
func (p *pulls) tryAll(ctx context.Context, spec *cri.ImageSpec, auths []*cri.AuthConfig, sandbox *cri.PodSandboxConfig) (string, error) {
	if len(auths) == 0 {
		return p.rt.PullImage(ctx, spec, nil, sandbox)
	}
	var errs []error
	for _, auth := range auths {
		ref, err := p.rt.PullImage(ctx, spec, auth, sandbox)
		if err == nil || runtimeGone(err) || ctx.Err() != nil {
			return ref, err
		}
		if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			errs = append(errs, err)
		}
	}
	return "", errors.Join(errs...)
}

// watch asks how far the pull is. With several pulls at a time nobody knows which part is whose: the figures are of all.
func (p *pulls) watch(ctx context.Context, one *pull) {
	parts := map[string]PullPart{}
	tick := time.NewTicker(progressAsk)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := p.progress(ctx)
		if err != nil {
			continue // it is only for people
		}
		for name, part := range parts {
			if _, there := now[name]; !there && part.Total > 0 { // that one is done
				parts[name] = PullPart{part.Total, part.Total}
			}
		}
		var have, total int64
		for name, part := range now {
			parts[name] = part
		}
		for _, part := range parts {
			have, total = have+part.Have, total+max(part.Total, part.Have)
		}
		if total > 0 {
			one.say(fmt.Sprintf("%s of %s so far", mebibytes(have), mebibytes(total)))
		}
	}
}

func (o *pull) say(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = text
}

func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB" }

// pullKey is the same for pulls that may be one: who has other credentials must show them to the registry.
func pullKey(spec *cri.ImageSpec, auths []*cri.AuthConfig) string {
	h := fnv.New128a()
	for _, a := range auths {
		_, _ = h.Write([]byte(strings.Join([]string{a.Username, a.Password, a.Auth, a.ServerAddress, a.IdentityToken, a.RegistryToken, ""}, "\x00")))
	}
	return spec.Image + "\x00" + spec.RuntimeHandler + "\x00" + string(h.Sum(nil))
}

// PullImage fetches an image ahead of the pods that need it, unless it is there; auths are tried in order. The image counts as pulled by this agent:
// if the disk fills up and no pod wants it, it may be removed.
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
	id, _, err := m.pulls.get(ctx, spec, auths, nil, func(text string) { m.o.Log.Info("pulling an image ahead", "image", ref, "progress", text) })
	if err != nil {
		return fmt.Errorf("pull image %s: %w", ref, err)
	}
	if have, err = m.o.Runtime.ImageStatus(ctx, &cri.ImageSpec{Image: id, UserSpecifiedImage: ref}, false); err != nil || have.Image == nil {
		return fmt.Errorf("image %s was pulled, but the runtime does not have it: %w", ref, orNotFound(err))
	}
	m.images.note(have.Image.ID, ref, false)
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
