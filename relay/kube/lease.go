package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/skerry/skerry/firmware/wire"
)

const (
	leaseNamespace  = "kube-node-lease"
	epochAnnotation = "skerry.dev/session-epoch"
	relayAnnotation = "skerry.dev/relay"
	leaseWorkers    = 32 // 10,000 Leases in 20 s at an API server that takes 60 ms for each
	leaseTries      = 5  // conflicts in a row before SessionStarted gives up
)

// leaseState is what is needed to renew a lease with one request.
type leaseState struct {
	rv    string // empty: the Lease was deleted with its Node, and is claimed again if somebody makes that anew
	owned bool   // it has its owner reference to the Node
}

// SessionStarted claims the node's Lease for a session. It fails with ErrNewerSession if the Lease records a newer one;
// epochs of one node must therefore grow, over all relays. What older sessions of this relay had still to write is dropped:
// the new session reports everything again.
func (s *Sink) SessionStarted(ctx context.Context, node string, epoch uint64) error {
	s.mu.Lock()
	if newest := s.newestLocked(node); newest > epoch {
		s.mu.Unlock()
		return errNewerHere(node, epoch, newest)
	}
	s.starting[node] = epoch
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.starting[node] == epoch {
			delete(s.starting, node)
		}
	}()

	lease, previous, err := s.claim(ctx, node, epoch)
	if err != nil {
		return fmt.Errorf("node %s, session epoch %d: claim Lease %s/%s: %w", node, epoch, leaseNamespace, node, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if newest := s.newestLocked(node); newest > epoch {
		return errNewerHere(node, epoch, newest)
	}
	if previous != s.opts.Relay {
		// Another relay wrote meanwhile: what this one remembers of the node's devices is no longer what stands there.
		for key, w := range s.written {
			if w.node == node {
				delete(s.written, key)
			}
		}
	}
	s.sessions[node] = &session{epoch: epoch, since: time.Now(), reports: make(map[wire.Key]*report), lease: lease, quota: newQuota()}
	s.renewals.AddAfter(renewal{node, epoch}, s.renewDelay())
	return nil
}

func errNewerHere(node string, epoch, newest uint64) error {
	return fmt.Errorf("node %s, session epoch %d: %w (epoch %d, on this relay)", node, epoch, errFenced, newest)
}

// newestLocked returns the newest epoch of the node that this relay knows of, sessions that are being started included.
func (s *Sink) newestLocked(node string) uint64 {
	newest := s.starting[node]
	if sess := s.sessions[node]; sess != nil {
		newest = max(newest, sess.epoch)
	}
	return newest
}

// SessionEnded stops renewing the Lease: the node counts as gone when it expires, unless another session begins. Reports
// that have been taken are still written.
func (s *Sink) SessionEnded(node string, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[node]
	if sess == nil || sess.epoch != epoch {
		return
	}
	sess.ended = true
	s.sweepLocked(node, sess)
}

// fence stops a session's writes, because another one owns the node.
func (s *Sink) fence(node string, epoch uint64) {
	s.mu.Lock()
	sess := s.sessions[node]
	if sess == nil || sess.epoch != epoch || sess.fenced {
		s.mu.Unlock()
		return
	}
	sess.fenced = true
	sess.reports = nil
	delete(s.sessions, node)
	s.mu.Unlock()
	s.opts.Metrics.fenced()
	s.log.Warn("session is no longer the node's own: a newer one holds its Lease; its reports are dropped",
		slog.String("node", node), slog.Uint64("epoch", epoch))
	if s.opts.Fenced != nil {
		s.opts.Fenced(node, epoch)
	}
}

// ours reads the Lease again and returns errFenced if another session owns the node.
func (s *Sink) ours(ctx context.Context, node string, epoch uint64) error {
	lease, err := s.leases().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // deleted with its Node; nobody else has claimed it
	}
	if err != nil {
		return fmt.Errorf("read Lease %s/%s: %w", leaseNamespace, node, err)
	}
	if recorded, relay := leaseOwner(lease); recorded != epoch || relay != s.opts.Relay {
		return errFenced
	}
	return nil
}

func leaseOwner(lease *unstructured.Unstructured) (epoch uint64, relay string) {
	a := lease.GetAnnotations()
	epoch, err := strconv.ParseUint(a[epochAnnotation], 10, 64)
	if err != nil {
		return 0, a[relayAnnotation]
	}
	return epoch, a[relayAnnotation]
}

func leaseExpired(lease *unstructured.Unstructured) bool {
	spec := child(lease.Object, "spec")
	renewed, err := time.Parse(time.RFC3339Nano, text(spec, "renewTime"))
	seconds, _ := spec["leaseDurationSeconds"].(int64)
	return err != nil || time.Since(renewed) > time.Duration(seconds)*time.Second
}

// claim records the session in the Lease, and returns which relay it recorded before. A newer epoch stands in the way only
// while its relay is another one and alive: this relay's own past (a clock that was set back, say) must not lock a node out.
func (s *Sink) claim(ctx context.Context, node string, epoch uint64) (_ leaseState, previous string, err error) {
	for range leaseTries {
		lease, getErr := s.leases().Get(ctx, node, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(getErr):
			lease, err = s.leases().Create(ctx, s.newLease(node, epoch), metav1.CreateOptions{FieldManager: fieldManager})
		case getErr != nil:
			return leaseState{}, "", getErr
		default:
			recorded, relay := leaseOwner(lease)
			if relay != s.opts.Relay && recorded >= epoch && !leaseExpired(lease) {
				return leaseState{}, "", fmt.Errorf("%w (epoch %d, relay %s)", errFenced, recorded, relay)
			}
			// Asked after the Lease was read: a newer session of this relay that claims it from here on makes our patch fail.
			s.mu.Lock()
			newest := s.newestLocked(node)
			s.mu.Unlock()
			if newest > epoch {
				return leaseState{}, "", fmt.Errorf("%w (epoch %d, on this relay)", errFenced, newest)
			}
			previous = relay
			lease, err = s.patchLease(ctx, node, epoch, lease.GetResourceVersion(), true)
		}
		if err == nil {
			return leaseState{rv: lease.GetResourceVersion(), owned: len(lease.GetOwnerReferences()) > 0}, previous, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return leaseState{}, "", err
		}
		s.opts.Metrics.conflict("leases")
	}
	return leaseState{}, "", err
}

func (s *Sink) leases() dynamic.ResourceInterface {
	return s.opts.Leases.Resource(leasesGVR).Namespace(leaseNamespace)
}

func (s *Sink) newLease(node string, epoch uint64) *unstructured.Unstructured {
	lease := &unstructured.Unstructured{Object: s.leaseFields(node, epoch, true)}
	lease.SetAPIVersion(leasesGVR.GroupVersion().String())
	lease.SetKind("Lease")
	lease.SetNamespace(leaseNamespace)
	lease.SetName(node)
	return lease
}

// leaseFields are the fields that the relay sets: as the kubelet's, plus the session that owns the node.
func (s *Sink) leaseFields(node string, epoch uint64, full bool) map[string]any {
	spec := map[string]any{"renewTime": time.Now().UTC().Format(metav1.RFC3339Micro)}
	meta := map[string]any{}
	if full {
		spec["holderIdentity"] = node
		spec["leaseDurationSeconds"] = int64(s.opts.LeaseDuration / time.Second)
		meta["annotations"] = map[string]any{
			epochAnnotation: strconv.FormatUint(epoch, 10),
			relayAnnotation: s.opts.Relay,
		}
	}
	if r := s.index.get(wire.NewKey(wire.KindNode, "", node, "")); r != nil && full {
		meta["ownerReferences"] = []any{map[string]any{
			"apiVersion": "v1", "kind": "Node", "name": node, "uid": r.version.UID,
		}}
	}
	return map[string]any{"metadata": meta, "spec": spec}
}

func (s *Sink) patchLease(ctx context.Context, node string, epoch uint64, rv string, full bool) (*unstructured.Unstructured, error) {
	patch := s.leaseFields(node, epoch, full)
	child(patch, "metadata")["resourceVersion"] = rv
	b, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return s.leases().Patch(ctx, node, types.MergePatchType, b, metav1.PatchOptions{FieldManager: fieldManager})
}

// renewDelay spreads the renewals of many nodes.
func (s *Sink) renewDelay() time.Duration {
	d := s.opts.LeaseInterval
	return d - time.Duration(rand.Int64N(int64(d)/10+1))
}

func (s *Sink) renewer(ctx context.Context) {
	for {
		r, shutdown := s.renewals.Get()
		if shutdown {
			return
		}
		if delay := s.renew(ctx, r); delay > 0 {
			s.renewals.AddAfter(r, delay)
		}
		s.renewals.Done(r)
	}
}

// renew renews one lease and returns when to do it again; 0 means never.
func (s *Sink) renew(ctx context.Context, r renewal) time.Duration {
	s.mu.Lock()
	sess := s.sessions[r.node]
	alive := sess != nil && sess.epoch == r.epoch && !sess.ended && !sess.fenced
	s.mu.Unlock()
	if !alive || ctx.Err() != nil {
		return 0
	}
	// Only this worker uses sess.lease: the queue never hands out one renewal twice at a time.
	if sess.lease.rv == "" { // deleted with its Node
		if s.index.get(wire.NewKey(wire.KindNode, "", r.node, "")) == nil {
			return s.renewDelay()
		}
		return s.reclaim(ctx, r, sess, true)
	}
	full := !sess.lease.owned && s.index.get(wire.NewKey(wire.KindNode, "", r.node, "")) != nil
	lease, err := s.patchLease(ctx, r.node, r.epoch, sess.lease.rv, full)
	if err == nil {
		sess.lease = leaseState{rv: lease.GetResourceVersion(), owned: len(lease.GetOwnerReferences()) > 0}
		return s.renewDelay()
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		s.opts.Metrics.conflict("leases")
		return s.reclaim(ctx, r, sess, apierrors.IsNotFound(err))
	}
	if ctx.Err() == nil && s.trouble.allow() {
		s.log.Warn("cannot renew a node's Lease; retrying", slog.String("node", r.node), slog.Any("error", err))
	}
	return s.opts.LeaseInterval / 5
}

// reclaim handles a lease that is not as we left it: somebody else changed it, or it was deleted, alone or with its Node.
func (s *Sink) reclaim(ctx context.Context, r renewal, sess *session, gone bool) time.Duration {
	if gone && s.index.get(wire.NewKey(wire.KindNode, "", r.node, "")) == nil && s.sawNode(sess) {
		s.log.Warn("the Node was deleted; its session goes on, and the node registers again with its next session", slog.String("node", r.node))
		sess.lease = leaseState{}
		return s.renewDelay()
	}
	if err := s.ours(ctx, r.node, r.epoch); err != nil {
		if errors.Is(err, errFenced) {
			s.fence(r.node, r.epoch)
			return 0
		}
		return s.opts.LeaseInterval / 5
	}
	lease, _, err := s.claim(ctx, r.node, r.epoch)
	switch {
	case errors.Is(err, errFenced):
		s.fence(r.node, r.epoch)
		return 0
	case err != nil:
		return s.opts.LeaseInterval / 5
	}
	sess.lease = lease
	return s.renewDelay()
}

func (s *Sink) sawNode(sess *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sess.hasNode
}
