package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// RevokedMap is the ConfigMap that lists revoked nodes: one key for each, its value says when and why. It is not an
// annotation of the Node, because a node reports its own annotations, and a Node can be deleted.
const RevokedMap = "skerry-revoked"

// Revocations is the relay's view of the list. Create it with NewRevocations, and run it.
type Revocations struct {
	client  kubernetes.Interface
	log     *slog.Logger
	changed func(node string)
	nodes   atomic.Pointer[map[string]string]
	synced  atomic.Bool
}

// NewRevocations returns the list; onRevoked, which may be nil and must not block, is called for each node that becomes
// revoked while Run runs, so that its open session can be closed.
func NewRevocations(c kubernetes.Interface, log *slog.Logger, onRevoked func(node string)) *Revocations {
	if onRevoked == nil {
		onRevoked = func(string) {}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Revocations{client: c, log: log, changed: onRevoked}
	r.nodes.Store(&map[string]string{})
	return r
}

// Revoked says whether node is revoked, as far as the last change that was seen tells. It does not block.
func (r *Revocations) Revoked(node string) bool {
	_, ok := (*r.nodes.Load())[node]
	return ok
}

// Synced says whether the list has been read. Before that, Revoked knows nothing, and a relay should not admit anybody.
func (r *Revocations) Synced() bool { return r.synced.Load() }

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
			DeleteFunc: func(any) { r.set(map[string]string{}) },
		},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			r.synced.Store(true)
		}
	})
	informer.RunWithContext(ctx)
	wg.Wait()
	return ctx.Err()
}

func (r *Revocations) see(obj any) {
	if cm, ok := obj.(*corev1.ConfigMap); ok && cm.Name == RevokedMap {
		r.set(maps.Clone(cm.Data))
	}
}

func (r *Revocations) set(now map[string]string) {
	if now == nil {
		now = map[string]string{}
	}
	before := *r.nodes.Swap(&now)
	for node, why := range now {
		if _, was := before[node]; !was {
			r.log.Warn("node is revoked: its sessions end and it cannot join", "node", node, "reason", why)
			r.changed(node)
		}
	}
	for node := range before {
		if _, is := now[node]; !is {
			r.log.Info("node is no longer revoked", "node", node)
		}
	}
}

// ErrNotRevoked is returned by Restore for a node that is not on the list.
var ErrNotRevoked = errors.New("the node is not revoked")

// Revoke puts node on the list, with the reason.
func Revoke(ctx context.Context, c kubernetes.Interface, node, reason string, now time.Time) error {
	return editRevoked(ctx, c, func(data map[string]string) error {
		data[node] = now.UTC().Format(time.RFC3339) + " " + reason
		return nil
	})
}

// Restore takes node off the list. Its certificate, if it has not expired, is good again.
func Restore(ctx context.Context, c kubernetes.Interface, node string) error {
	return editRevoked(ctx, c, func(data map[string]string) error {
		if _, ok := data[node]; !ok {
			return fmt.Errorf("%w: %q", ErrNotRevoked, node)
		}
		delete(data, node)
		return nil
	})
}

func editRevoked(ctx context.Context, c kubernetes.Interface, edit func(map[string]string) error) error {
	maps := c.CoreV1().ConfigMaps(Namespace)
	for attempt := 1; ; attempt++ {
		cm, err := maps.Get(ctx, RevokedMap, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if missing {
			cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RevokedMap, Namespace: Namespace}}
		} else if err != nil {
			return fmt.Errorf("read ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
		}
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		if err := edit(cm.Data); err != nil {
			return err
		}
		if missing {
			_, err = maps.Create(ctx, cm, metav1.CreateOptions{})
		} else {
			_, err = maps.Update(ctx, cm, metav1.UpdateOptions{})
		}
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) || attempt == 5 {
			return fmt.Errorf("write ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
		}
	}
}
