package members

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	only = Label + "=true"
	// Watches end by themselves after watchTime and up to as much again; they go on where they were, without a LIST.
	watchTime = 5 * time.Minute
	// retry is the shortest time between two attempts, and grows to retryMax while they fail.
	retry    = time.Second
	retryMax = 10 * time.Second
)

// follow watches the Leases until ctx ends. It is not client-go's reflector, because that sleeps through the end of ctx, for up to a
// minute after errors.
func (m *Members) follow(ctx context.Context) {
	rv, pause := "", retry
	for ctx.Err() == nil {
		began := time.Now()
		next, err := m.watchFrom(ctx, rv)
		rv = next
		if err == nil || time.Since(began) > retryMax {
			pause = retry
		}
		if err != nil && ctx.Err() == nil {
			m.opts.Log.Debug("cannot watch the Leases of relays; retrying", slog.Any("error", err))
		}
		t := time.NewTimer(pause + rand.N(pause))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause = min(2*pause, retryMax)
	}
}

// watchFrom lists if rv is empty, then takes what happens until the watch ends. It returns where to go on: empty, if what was
// between is lost.
func (m *Members) watchFrom(ctx context.Context, rv string) (next string, err error) {
	leases := m.leases()
	if rv == "" {
		attempt, cancel := context.WithTimeout(ctx, 2*timeout)
		list, err := leases.List(attempt, metav1.ListOptions{LabelSelector: only})
		cancel()
		if err != nil {
			return "", err
		}
		m.replace(list.Items)
		rv = list.ResourceVersion
	}
	seconds := int64((watchTime + rand.N(watchTime)) / time.Second)
	w, err := leases.Watch(ctx, metav1.ListOptions{LabelSelector: only, ResourceVersion: rv, AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
	if err != nil {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return "", err
		}
		return rv, err
	}
	defer w.Stop()
	for {
		var e watch.Event
		var open bool
		select {
		case <-ctx.Done():
			return rv, nil
		case e, open = <-w.ResultChan():
		}
		if !open {
			return rv, nil
		}
		l, ok := e.Object.(*coordinationv1.Lease)
		if !ok || e.Type == watch.Error { // most often: rv is too old
			return "", apierrors.FromObject(e.Object)
		}
		rv = l.ResourceVersion
		switch e.Type {
		case watch.Added, watch.Modified:
			m.see(l)
		case watch.Deleted:
			m.gone(l.Name)
		}
	}
}

// replace takes a whole list.
func (m *Members) replace(list []coordinationv1.Lease) {
	listed := make(map[string]bool, len(list))
	for i := range list {
		listed[list[i].Name] = true
		m.see(&list[i])
	}
	var gone []string
	m.mu.Lock()
	m.synced = true
	for name := range m.peers {
		if !listed[name] {
			gone = append(gone, name)
		}
	}
	m.mu.Unlock()
	for _, name := range gone {
		m.gone(name)
	}
}

// see takes a Lease that the watch has brought, or a new list: what is as it was is no sign of life.
func (m *Members) see(l *coordinationv1.Lease) {
	now := time.Now()
	m.mu.Lock()
	p := m.peers[l.Name]
	fresh := p == nil
	if !fresh && p.uid == string(l.UID) && p.rv == l.ResourceVersion {
		m.mu.Unlock()
		return
	}
	if fresh {
		p = new(peer)
		m.peers[l.Name] = p
	}
	back := p.silent
	if l.Name == m.lease && holderOf(l) == m.holder {
		m.beats++
	}
	*p = peer{lease: l.Name, Member: m.memberOf(l), uid: string(l.UID), rv: l.ResourceVersion, changed: now, beats: m.beats}
	known := p.Member
	m.mu.Unlock()
	if known.Self {
		return
	}
	switch {
	case fresh:
		m.opts.Log.Info("another relay is here", slog.String("relay", known.Name), slog.String("address", known.Address), slog.Int("agents", known.Agents))
	case back:
		m.opts.Log.Info("a relay that was silent is back", slog.String("relay", known.Name))
	}
}

// memberOf reads what a Lease says of its relay. Nothing that is wrong in it does harm: it was written by hand.
func (m *Members) memberOf(l *coordinationv1.Lease) Member {
	out := Member{Name: l.Annotations[NameAnnotation], Draining: l.Annotations[DrainingAnnotation] == "true", Self: l.Name == m.lease}
	if out.Name == "" {
		out.Name = l.Name
	}
	if a := l.Annotations[AddressAnnotation]; validAddress(a) {
		out.Address = a
	}
	if a := l.Annotations[KubeletAnnotation]; validAddress(a) {
		out.Kubelet = a
	}
	if n, err := strconv.Atoi(l.Annotations[AgentsAnnotation]); err == nil {
		out.Agents = max(0, n)
	}
	return out
}

func (m *Members) gone(name string) {
	m.mu.Lock()
	p := m.peers[name]
	delete(m.peers, name)
	m.mu.Unlock()
	if p != nil && !p.Self && !p.silent {
		m.opts.Log.Info("a relay has left", slog.String("relay", p.Name))
	}
}

// tidy logs who has fallen silent, and deletes the Leases of those that have been so for long: pods have new names each time.
func (m *Members) tidy(ctx context.Context) {
	now := time.Now()
	var silent, old []peer
	m.mu.Lock()
	for _, p := range m.peers {
		if !m.deadLocked(p, now) {
			continue
		}
		if !p.silent {
			p.silent = true
			silent = append(silent, *p)
		}
		if now.Sub(p.changed) >= forget {
			old = append(old, *p)
		}
	}
	m.mu.Unlock()
	for _, p := range silent {
		m.opts.Log.Warn("a relay is silent: it was killed, or has lost the API server; its agents go to the others",
			slog.String("relay", p.Name), slog.Duration("for", now.Sub(p.changed).Round(time.Second)), slog.Int("agents", p.Agents))
	}
	const atOnce = 5 // in one round; others tidy, too
	for _, p := range old[:min(len(old), atOnce)] {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		err := m.leases().Delete(ctx, p.lease, exactly(p.uid, p.rv))
		cancel()
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			m.opts.Log.Debug("the Lease of a relay that is gone cannot be deleted; trying again", slog.String("relay", p.Name), slog.Any("error", err))
		}
	}
}

// exactly makes a deletion fail if the object is another one, or has changed.
func exactly(uid, rv string) metav1.DeleteOptions {
	u := types.UID(uid)
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &u, ResourceVersion: &rv}}
}
