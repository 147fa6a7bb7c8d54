package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	epochAnnotation = "skerry.dev/session-epoch"
	relayAnnotation = "skerry.dev/relay"
	leaseTries      = 5 // conflicts in a row before a claim is given up
)

// leaseState is what is known of a node's Lease: enough to write it with one request.
type leaseState struct {
	rv      uint64 // resourceVersion; 0: there is no Lease, or it is not known
	relay   string // recorded relay
	token   uint64 // recorded epoch
	epoch   uint64 // session of this relay that the token was written for; 0: none of this process
	renewed int64  // recorded time of renewal, Unix ns
	owner   string // UID of the Node that owns it, empty if none does
	seconds int32  // duration
	gone    bool   // it is known that there is none
	extra   *metav1.ObjectMeta
}

func (l *leaseState) fresh(now time.Time) bool {
	return l.rv != 0 && now.UnixNano()-l.renewed <= int64(l.seconds)*int64(time.Second)
}

// contested reports whether the Lease was found to be another relay's. A session that began in memory, because the Lease was this
// relay's, has to contend for it then: an attempt of an older session, which has read it, ends only that one.
func (l *leaseState) contested(relay string) bool { return l.rv != 0 && l.relay != relay }

// SessionStarted claims the node's Lease for a session. If the Lease is this relay's and has not expired, the claim costs no
// request: the next renewal records it. It fails with ErrNewerSession if this relay has begun a newer session of the node; of
// claims by several relays the last one stands, whatever their clocks say. What older sessions of this relay had still to write
// is dropped: the new one offers everything again.
func (s *Sink) SessionStarted(ctx context.Context, node string, epoch uint64) error {
	if err := s.leasesRead(ctx); err != nil {
		return fmt.Errorf("node %s, session epoch %d: wait for the list of Leases: %w", node, epoch, err)
	}
	s.mu.Lock()
	n := s.node(node)
	if n.newest >= epoch {
		defer s.mu.Unlock()
		return errNewerHere(node, epoch, n.newest)
	}
	n.newest = epoch
	if n.lease.relay == s.opts.Relay && n.lease.fresh(time.Now()) {
		defer s.mu.Unlock()
		s.opts.Metrics.claim("memory")
		s.begin(n, epoch, false)
		return nil
	}
	n.claims++
	s.mu.Unlock()

	s.lockLease(n)
	gap, err := s.claim(ctx, n, epoch, false)
	n.leaseMu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	n.claims--
	switch {
	case err != nil:
		s.release(n)
		return fmt.Errorf("node %s, session epoch %d: claim Lease %s/%s: %w", node, epoch, NodeLeaseNamespace, node, err)
	case n.newest > epoch:
		return errNewerHere(node, epoch, n.newest)
	}
	s.opts.Metrics.claim("written")
	s.begin(n, epoch, gap)
	return nil
}

// begin puts a session in its node's place. gap says that others may have written since this relay last held the Lease.
func (s *Sink) begin(n *nodeState, epoch uint64, gap bool) {
	for i := range n.entries {
		e := &n.entries[i]
		s.drop(n, e)
		e.ask, e.asked = false, false
		if gap {
			e.hash, e.base, e.foreign = [16]byte{}, 0, false
		}
	}
	n.session, n.leaving = &session{epoch: epoch, since: time.Now().UnixNano()}, false
	s.keepRenewed(n)
}

func errNewerHere(node string, epoch, newest uint64) error {
	return fmt.Errorf("node %s, session epoch %d: %w (epoch %d, on this relay)", node, epoch, errFenced, newest)
}

// SessionEnded stops renewing the Lease: the node counts as gone when it expires, unless the agent comes back before. Reports
// that have been taken are still written.
func (s *Sink) SessionEnded(node string, epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node]
	if !n.live(epoch) {
		return
	}
	n.session.ended = true
	s.sweep(n)
}

// fence stops a session's writes, because another one owns the node.
func (s *Sink) fence(node string, epoch uint64) {
	s.mu.Lock()
	n := s.nodes[node]
	if n == nil || n.session == nil || n.session.epoch != epoch {
		s.mu.Unlock()
		return
	}
	for i := range n.entries {
		e := &n.entries[i]
		s.drop(n, e)
		e.hash, e.base = [16]byte{}, 0
	}
	n.session = nil
	s.mu.Unlock()
	s.opts.Metrics.fenced()
	s.log.Warn("session is no longer the node's own: a newer one holds its Lease; its reports are dropped",
		slog.String("node", node), slog.Uint64("epoch", epoch))
	if s.opts.Fenced != nil {
		s.opts.Fenced(node, epoch)
	}
}

// ours reads the Lease and returns errFenced if another session owns the node.
func (s *Sink) ours(ctx context.Context, n *nodeState, epoch uint64) error {
	s.lockLease(n)
	defer n.leaseMu.Unlock()
	// An attempt of an older session of this relay may go on for a while: the Lease is this relay's, but not for it. What is there
	// now may have been written through another relay in between.
	s.mu.Lock()
	newest := n.newest
	s.mu.Unlock()
	if newest > epoch {
		return errFenced
	}
	return s.confirm(ctx, n, epoch)
}

// confirm reads the Lease, whose lock is held, and decides whose the node is.
//
// A claim that this relay has recorded, and that is no longer what stands there, has been overtaken: whoever wrote after it has
// the node. A claim in memory has not taken part yet; the record that it was based on may have been overwritten before or after
// it was made. There the greater number wins: a claim by request is recorded with at least the number that it found plus one,
// so numbers grow with each, and the loser, whose session ends, claims by request when its agent comes back. It cannot lose
// again for its clock's sake.
func (s *Sink) confirm(ctx context.Context, n *nodeState, epoch uint64) error {
	before := n.lease
	if err := s.readLease(ctx, n); err != nil {
		return fmt.Errorf("read Lease %s/%s: %w", NodeLeaseNamespace, n.name, err)
	}
	l := n.lease
	switch {
	case l.rv == 0:
		return nil // deleted with its Node; nobody else has claimed it
	case l.relay == s.opts.Relay && l.token == before.token:
		return nil
	case before.epoch == epoch || l.token > epoch:
		return errFenced
	}
	_, err := s.claim(ctx, n, epoch, true)
	if err == nil {
		s.distrust(n)
	}
	return err
}

// record writes a claim that is in memory to the Lease, before the session writes anything else: a relay that was the node's
// meanwhile, and hangs, must find out when it goes on. It takes the place of the next renewal.
func (s *Sink) record(ctx context.Context, n *nodeState, epoch uint64) error {
	s.mu.Lock()
	recorded := n.lease.epoch == epoch || n.lease.gone
	current := n.session != nil && n.session.epoch == epoch && n.newest == epoch
	s.mu.Unlock()
	switch {
	case !current:
		return errFenced // a newer session of this relay has begun
	case recorded:
		return nil
	}
	s.lockLease(n)
	defer n.leaseMu.Unlock()
	s.mu.Lock()
	newest := n.newest
	s.mu.Unlock()
	l := n.lease
	switch {
	case newest > epoch: // it has claimed the Lease, or is about to
		return errFenced
	case l.epoch == epoch || l.gone:
		return nil
	case l.contested(s.opts.Relay):
		if err := s.claimAgain(ctx, n, epoch); err != nil {
			return fmt.Errorf("record the session in Lease %s/%s: %w", NodeLeaseNamespace, n.name, err)
		}
		return nil
	}
	l.relay, l.token, l.epoch = s.opts.Relay, max(l.token+1, epoch), epoch
	l.seconds = int32(s.opts.LeaseDuration / time.Second)
	err := s.putLease(ctx, n, l)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		s.opts.Metrics.conflict("leases")
		if err = s.confirm(ctx, n, epoch); err == nil && n.lease.epoch != epoch && !n.lease.gone {
			err = s.claimAgain(ctx, n, epoch)
		}
	}
	if err != nil {
		return fmt.Errorf("record the session in Lease %s/%s: %w", NodeLeaseNamespace, n.name, err)
	}
	return nil
}

// distrust asks the agent for everything again: others have written meanwhile.
func (s *Sink) distrust(n *nodeState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n.entries {
		e := &n.entries[i]
		e.base = 0
		if e.work == nil && !e.asked {
			e.hash, e.ask = [16]byte{}, true
		}
	}
	s.enlist(n)
}

// readLease reads the Lease, whose lock is held.
func (s *Sink) readLease(ctx context.Context, n *nodeState) error {
	lease, err := s.opts.Leases.Get(ctx, n.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		s.setLease(n, leaseState{gone: true})
	case err != nil:
		return err
	default:
		s.setLease(n, s.leaseOf(n, lease))
	}
	return nil
}

func (s *Sink) setLease(n *nodeState, l leaseState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.lease = l
}

// leaseOf reduces a Lease to what is kept of it. Strings are shared with what has them already.
func (s *Sink) leaseOf(n *nodeState, lease *coordinationv1.Lease) leaseState {
	l := leaseState{rv: parseRevision(lease.ResourceVersion), relay: lease.Annotations[relayAnnotation]}
	if l.relay == s.opts.Relay {
		l.relay = s.opts.Relay
	}
	if token, err := strconv.ParseUint(lease.Annotations[epochAnnotation], 10, 64); err == nil {
		l.token = token
	}
	if l.relay == s.opts.Relay && l.token == n.lease.token {
		l.epoch = n.lease.epoch
	}
	if lease.Spec.RenewTime != nil {
		l.renewed = lease.Spec.RenewTime.UnixNano()
	}
	if lease.Spec.LeaseDurationSeconds != nil {
		l.seconds = *lease.Spec.LeaseDurationSeconds
	}
	if len(lease.OwnerReferences) > 0 {
		l.owner = string(lease.OwnerReferences[0].UID)
		if r := s.index.get(nodeKeyOf(n.name)); r != nil && r.version.UID == l.owner {
			l.owner = r.version.UID
		}
	}
	known := 0
	for _, name := range []string{relayAnnotation, epochAnnotation} {
		if _, ok := lease.Annotations[name]; ok {
			known++
		}
	}
	if len(lease.Annotations) > known || len(lease.Labels) > 0 {
		l.extra = &metav1.ObjectMeta{Labels: lease.Labels, Annotations: lease.Annotations}
	}
	return l
}

// claim records a session in the Lease, whose lock is held. gap says that others may have written since this relay last wrote
// the Lease. It takes one request if the Lease is as it was last seen, and is never refused for what another relay recorded:
// the agent is here. Only a newer session of this relay is in the way. With yield, for a claim that has been in memory for a while, a
// greater number is, too, in whatever try it is found: the relay may hang between any two.
func (s *Sink) claim(ctx context.Context, n *nodeState, epoch uint64, yield bool) (gap bool, err error) {
	before := n.lease
	read := before.rv == 0 && !before.gone && !s.listed.Load()
	if before.rv != 0 && before.relay != s.opts.Relay {
		// Another relay renews it, most likely: what was seen an interval ago has passed.
		read = time.Since(time.Unix(0, before.renewed)) > s.opts.LeaseInterval
	}
	for range leaseTries {
		if read {
			if err := s.readLease(ctx, n); err != nil {
				return false, err
			}
		}
		// Asked after the Lease was read: a newer session of this relay that claims it from here on makes our write fail.
		s.mu.Lock()
		newest := n.newest
		s.mu.Unlock()
		if newest > epoch {
			return false, fmt.Errorf("%w (epoch %d, on this relay)", errFenced, newest)
		}
		prev := n.lease
		if yield && prev.token > epoch {
			return false, fmt.Errorf("%w (number %d, relay %s)", errFenced, prev.token, prev.relay)
		}
		next := prev
		next.relay, next.token, next.epoch = s.opts.Relay, max(prev.token+1, epoch), epoch
		next.seconds = int32(s.opts.LeaseDuration / time.Second)
		if err = s.putLease(ctx, n, next); err == nil {
			return before.rv == 0 || prev.relay != s.opts.Relay || before.relay != s.opts.Relay || prev.token != before.token, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			return false, err
		}
		s.opts.Metrics.conflict("leases")
		read = true
	}
	return false, err
}

// putLease writes the Lease, whose lock is held, with l's relay, token and duration and a new time of renewal, based on l.rv.
func (s *Sink) putLease(ctx context.Context, n *nodeState, l leaseState) error {
	now := metav1.NowMicro()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.name, Namespace: NodeLeaseNamespace,
			Annotations: map[string]string{},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &n.name, LeaseDurationSeconds: &l.seconds, RenewTime: &now},
	}
	if l.extra != nil {
		lease.Labels = l.extra.Labels
		for k, v := range l.extra.Annotations {
			lease.Annotations[k] = v
		}
	}
	lease.Annotations[epochAnnotation] = strconv.FormatUint(l.token, 10)
	lease.Annotations[relayAnnotation] = l.relay
	if r := s.index.get(nodeKeyOf(n.name)); r != nil {
		l.owner = r.version.UID
	}
	if l.owner != "" {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.name, UID: uidOf(l.owner)}}
	}
	seen := s.index.watched()
	var err error
	if l.rv == 0 {
		lease, err = s.opts.Leases.Create(ctx, lease, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		lease.ResourceVersion = strconv.FormatUint(l.rv, 10)
		// One empty entry drops managedFields, and an API server does not track who owns the fields of an object that has none when it
		// is updated: for a Lease that is most of the work. Nobody applies the Lease of a node.
		lease.ManagedFields = []metav1.ManagedFieldsEntry{{}}
		lease, err = s.opts.Leases.Update(ctx, lease, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return err
	}
	l.rv, l.renewed, l.gone = parseRevision(lease.ResourceVersion), now.UnixNano(), false
	s.setLease(n, l)
	s.mu.Lock()
	n.seen = seen
	s.mu.Unlock()
	return nil
}

// renew renews one Lease: that of a session, or one that is kept fresh for an agent that is on its way (see duty). again is when
// to try again; 0: when its turn comes.
func (s *Sink) renew(ctx context.Context, n *nodeState) (again time.Duration) {
	s.lockLease(n)
	defer n.leaseMu.Unlock()
	s.mu.Lock()
	duty, epoch := s.duty(n, time.Now())
	overtaken := duty == dutySession && n.newest > epoch // a newer session is being started, and claims the Lease
	s.mu.Unlock()
	switch {
	case duty == dutyNone || overtaken || ctx.Err() != nil:
		return 0
	case duty == dutyGrace:
		return s.renewForAnother(ctx, n)
	}
	l := n.lease
	node := s.index.get(nodeKeyOf(n.name))
	if l.rv == 0 && node == nil && l.gone {
		return 0 // deleted with its Node, and claimed again if somebody makes that anew
	}
	if l.contested(s.opts.Relay) {
		return s.settleClaim(n, epoch, s.claimAgain(ctx, n, epoch))
	}
	if l.relay != s.opts.Relay || l.epoch != epoch {
		l.relay, l.token, l.epoch = s.opts.Relay, max(l.token+1, epoch), epoch
	}
	l.seconds = int32(s.opts.LeaseDuration / time.Second)
	err := s.putLease(ctx, n, l)
	switch {
	case err == nil:
		return 0
	case apierrors.IsNotFound(err):
		s.opts.Metrics.conflict("leases")
		s.setLease(n, leaseState{gone: true, epoch: n.lease.epoch})
		if s.index.get(nodeKeyOf(n.name)) == nil && s.sawNode(n, epoch) {
			s.log.Warn("the Node was deleted; its session goes on, and the node registers again with its next session", slog.String("node", n.name))
			return 0
		}
		return s.settleClaim(n, epoch, s.claimAgain(ctx, n, epoch))
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		s.opts.Metrics.conflict("leases")
		if err = s.confirm(ctx, n, epoch); err == nil && n.lease.epoch != epoch {
			err = s.claimAgain(ctx, n, epoch) // ours, and touched by somebody: record the claim on what stands there now
		}
		return s.settleClaim(n, epoch, err)
	}
	if ctx.Err() == nil && s.trouble.allow() {
		s.log.Warn("cannot renew a node's Lease; retrying", slog.String("node", n.name), slog.Any("error", err))
	}
	return s.opts.LeaseInterval / 5
}

func (s *Sink) claimAgain(ctx context.Context, n *nodeState, epoch uint64) error {
	gap, err := s.claim(ctx, n, epoch, true)
	if err == nil && gap {
		s.distrust(n)
	}
	return err
}

// settleClaim ends the session if its claim has lost.
func (s *Sink) settleClaim(n *nodeState, epoch uint64, err error) (again time.Duration) {
	switch {
	case errors.Is(err, errFenced):
		s.fence(n.name, epoch)
		return 0
	case err != nil:
		return s.opts.LeaseInterval / 5
	}
	return 0
}

func (s *Sink) sawNode(n *nodeState, epoch uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return n.session != nil && n.session.epoch == epoch && n.session.hasNode
}
