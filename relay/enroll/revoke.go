package enroll

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Revocations is the relay's view of the list. Create it with NewRevocations, and run it. Whatever happens to the ConfigMap,
// the view errs on the side of refusing: until the list has been read nobody is let in, and a list that is deleted goes on
// holding, also beside one that is made in its place.
type Revocations struct {
	client  kubernetes.Interface
	log     *slog.Logger
	changed func(node string)
	nodes   atomic.Pointer[map[string]Revocation]
	read    atomic.Bool // there was a list since this process started
	known   atomic.Bool // the API server has answered
	missing atomic.Bool // there is none now

	mu   sync.Mutex
	uid  types.UID
	kept map[string]Revocation // of lists that were deleted while this process ran
}

// NewRevocations returns the list; onChange, which may be nil and must not block, is called for each node whose entry is
// new or another one, so that an open session that it concerns can be ended.
func NewRevocations(c kubernetes.Interface, log *slog.Logger, onChange func(node string)) *Revocations {
	if onChange == nil {
		onChange = func(string) {}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Revocations{client: c, log: log, changed: onChange}
	r.nodes.Store(&map[string]Revocation{})
	return r
}

// Refused says why a certificate of node that begins at issued is not accepted, and "" if it is, as far as the last change
// that was seen tells. It does not block.
func (r *Revocations) Refused(node string, issued time.Time) (reason string) {
	e, ok := (*r.nodes.Load())[node]
	switch {
	case !ok || !e.refuses(issued):
		return ""
	case e.Restored.IsZero():
		return fmt.Sprintf("node %s is revoked", node)
	}
	return fmt.Sprintf("the certificate is from before node %s was revoked", node)
}

// Revoked says whether node may not even join.
func (r *Revocations) Revoked(node string) bool {
	e, ok := (*r.nodes.Load())[node]
	return ok && e.Restored.IsZero()
}

// NotBefore returns the time after which certificates of node must begin; zero if it does not matter.
func (r *Revocations) NotBefore(node string) time.Time {
	return (*r.nodes.Load())[node].NotBefore
}

// Len is the number of entries.
func (r *Revocations) Len() int { return len(*r.nodes.Load()) }

// Synced says whether the list has been read. Before that, nothing is known of anybody, and a relay should not admit any agent.
func (r *Revocations) Synced() bool { return r.read.Load() }

// Problem says what is wrong with the list, nil if nothing is. A relay that has Synced goes on all the same.
func (r *Revocations) Problem() error {
	switch {
	case r.missing.Load(), r.known.Load() && !r.read.Load():
		return errNoRevoked()
	case !r.read.Load():
		return fmt.Errorf("the list of revoked nodes is still being read")
	}
	return nil
}

// Run watches the list until ctx ends.
func (r *Revocations) Run(ctx context.Context) error {
	maps := r.client.CoreV1().ConfigMaps(Namespace)
	only := fields.OneTermEqualSelector("metadata.name", RevokedMap).String()
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector = only
				return maps.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				return maps.Watch(ctx, o)
			},
		}, r.client),
		ObjectType: &corev1.ConfigMap{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    r.see,
			UpdateFunc: func(_, now any) { r.see(now) },
			DeleteFunc: r.deleted,
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			r.known.Store(true)
		}
	})
	informer.RunWithContext(ctx)
	wg.Wait()
	return ctx.Err()
}

func (r *Revocations) see(obj any) {
	cm, ok := obj.(*corev1.ConfigMap)
	if !ok || cm.Name != RevokedMap {
		return
	}
	now := parseRevoked(cm.Data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.Load() && cm.UID != r.uid { // another object of the same name: its makers cannot have meant to restore everybody
		r.kept = *r.nodes.Load()
	}
	r.uid = cm.UID
	forgotten := 0
	for node, e := range r.kept {
		if _, ok := now[node]; !ok {
			now[node] = e
			forgotten++
		}
	}
	if forgotten > 0 {
		r.log.Error("the list of revoked nodes was deleted and made anew without nodes that were on it; this relay goes on refusing them until it is restarted: revoke them again",
			"configMap", Namespace+"/"+RevokedMap, "nodes", forgotten)
	}
	r.set(now)
	r.missing.Store(false)
	r.read.Store(true)
}

func (r *Revocations) deleted(any) {
	r.missing.Store(true)
	r.log.Error("the list of revoked nodes was deleted; this relay goes on refusing who was on it, and no relay that starts now admits anybody",
		"configMap", Namespace+"/"+RevokedMap, "nodes", r.Len(), "problem", errNoRevoked())
}

// set is called with r.mu held.
func (r *Revocations) set(now map[string]Revocation) {
	before := *r.nodes.Swap(&now)
	for node, e := range now {
		was, ok := before[node]
		if ok && was == e {
			continue
		}
		if e.Restored.IsZero() {
			r.log.Warn("node is revoked: its sessions end and it cannot join", "node", node, "reason", e.Reason)
		} else {
			r.log.Info("node may join again; its certificates from before it was revoked stay refused", "node", node)
		}
		r.changed(node)
	}
	for node := range before {
		if _, is := now[node]; !is {
			r.log.Warn("node is off the list of revoked nodes: all its certificates are good again", "node", node)
		}
	}
}
