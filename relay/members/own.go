package members

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

const (
	// timeout bounds one renewal. It is shorter than Interval so that a hanging one does not delay the next.
	timeout = 4 * time.Second
	// leavePatience bounds the last request. Without it the others notice by Duration.
	leavePatience = time.Second
	remind        = 10 * time.Minute
	tries         = 3 // conflicts in a row before the next renewal
)

func (m *Members) leases() coordinationclient.LeaseInterface {
	return m.opts.Client.CoordinationV1().Leases(Namespace)
}

// keep renews the own Lease until ctx ends.
func (m *Members) keep(ctx context.Context) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := m.renew(attempt)
		cancel()
		m.note(ctx, err)
		m.tidy(ctx)
		t := time.NewTimer(Interval - rand.N(Interval/10)) // replicas that start together do not renew together
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

func (m *Members) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		m.renewed.Inc()
		if !m.logged.IsZero() {
			m.opts.Log.Info("the other relays hear of this one again")
		}
		m.logged = time.Time{}
	default:
		m.failed.Inc()
		if now := time.Now(); m.logged.IsZero() || now.Sub(m.logged) >= remind {
			m.logged = now
			m.opts.Log.Warn("the other relays do not hear of this one, and send it no agents when they drain; retrying", slog.Any("error", err))
		}
	}
}

// renew writes the own Lease; one request, unless somebody else has changed it.
func (m *Members) renew(ctx context.Context) error {
	var err error
	for range tries {
		if m.own == nil {
			if m.own, err = m.read(ctx); err != nil {
				return fmt.Errorf("read Lease %s/%s: %w%s", Namespace, m.lease, err, remedy(err))
			}
		}
		have := m.own
		next := m.describe(have)
		if have == nil {
			next, err = m.leases().Create(ctx, next, metav1.CreateOptions{})
		} else {
			next, err = m.leases().Update(ctx, next, metav1.UpdateOptions{})
		}
		if err == nil {
			m.own, m.written = next, true
			return nil
		}
		m.own = nil // whatever it was, it is read again
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	return fmt.Errorf("write Lease %s/%s: %w%s", Namespace, m.lease, err, remedy(err))
}

func remedy(err error) string {
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return ": run `skerryctl init` with this release"
	}
	return ""
}

// read returns the own Lease, nil if there is none. One that another process holds now, though this one wrote it before, means
// that two relays have one name.
func (m *Members) read(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := m.leases().Get(ctx, m.lease, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if holder := holderOf(lease); m.written && holder != m.holder && (m.twin.IsZero() || time.Since(m.twin) >= remind) {
		m.twin = time.Now()
		m.opts.Log.Error("another relay has this one's name: they take each other's nodes away; give each replica a name of its own (--name)",
			slog.String("name", m.opts.Name), slog.String("holder", holder))
	}
	return lease, nil
}

func holderOf(l *coordinationv1.Lease) string {
	if l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// describe returns the Lease as it should be, based on what is there; have may be nil.
func (m *Members) describe(have *coordinationv1.Lease) *coordinationv1.Lease {
	m.mu.Lock()
	draining := m.draining
	m.mu.Unlock()
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.lease, Namespace: Namespace}}
	if have != nil {
		l = have.DeepCopy()
	}
	now := metav1.NowMicro()
	if have == nil || holderOf(have) != m.holder || l.Spec.AcquireTime == nil {
		l.Spec.AcquireTime = &now
	}
	seconds := int32(Duration / time.Second)
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &m.holder, &seconds, &now
	if l.Labels == nil {
		l.Labels = make(map[string]string)
	}
	l.Labels[Label] = "true"
	if l.Annotations == nil {
		l.Annotations = make(map[string]string)
	}
	l.Annotations[NameAnnotation] = m.opts.Name
	l.Annotations[AgentsAnnotation] = strconv.Itoa(m.opts.Agents())
	set(l.Annotations, AddressAnnotation, m.opts.Address, m.opts.Address != "")
	set(l.Annotations, KubeletAnnotation, m.opts.Kubelet, m.opts.Kubelet != "")
	set(l.Annotations, DrainingAnnotation, "true", draining)
	return l
}

func set(m map[string]string, key, value string, is bool) {
	if is {
		m[key] = value
	} else {
		delete(m, key)
	}
}

// leave takes the own Lease away, unless another process has taken it over.
func (m *Members) leave(ctx context.Context) {
	if !m.written {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
	defer cancel()
	err := m.giveUp(ctx)
	if err != nil && !apierrors.IsNotFound(err) && !errors.Is(err, errTaken) {
		m.opts.Log.Warn("the relay's Lease stays behind; the others notice its end within "+Duration.String(), slog.String("lease", m.lease), slog.Any("error", err))
	}
}

var errTaken = errors.New("another process has this relay's Lease")

func (m *Members) giveUp(ctx context.Context) error {
	for range tries {
		if m.own == nil {
			lease, err := m.leases().Get(ctx, m.lease, metav1.GetOptions{})
			if err != nil {
				return err
			}
			m.own = lease
		}
		if holderOf(m.own) != m.holder {
			return errTaken
		}
		err := m.leases().Delete(ctx, m.lease, exactly(string(m.own.UID), m.own.ResourceVersion))
		if !apierrors.IsConflict(err) {
			return err
		}
		m.own = nil // the answer to the last renewal was lost, perhaps
	}
	return nil
}
