package pods

import (
	"context"
	"os"
	"time"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/corev1"
)

// Tokens keeps the service account tokens of this node's pods. *tokens.Keeper implements it.
type Tokens interface {
	// Token returns the newest token there is, and when it expires by this gateway's clock (zero: unknown): that may be over, if there was no
	// relay. If there is none it waits for some seconds at most, and says why.
	Token(ctx context.Context, pod wire.Key, serviceAccount, audience string, expirationSeconds int64) (token string, expires time.Time, err error)
	Forget(ctx context.Context, uid string) // removes what a pod had; it may be repeated
	Changed() <-chan struct{}               // coalesced: there are new tokens, or some have expired
	Take() []string                         // the UIDs of the pods concerned
}

// tokenLife is what Kubernetes gives a volume that does not say how long its tokens live, in seconds.
const tokenLife = 3600

// token returns a token of the pod's service account.
func (w *worker) token(ctx context.Context, d *desiredPod, s *corev1.TokenProjection) (string, error) {
	account := d.pod.Spec.ServiceAccountName
	setDefault(&account, "default")
	seconds := int64(tokenLife)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	if w.m.o.Tokens == nil {
		return "", waitFor(reasonConfigError, "the token of service account %q cannot be had: this agent was built without a way to ask for one", account)
	}
	token, expires, err := w.m.o.Tokens.Token(ctx, d.key, account, s.Audience, seconds)
	if err != nil {
		return "", waitFor(reasonConfigError, "the token of service account %q has not arrived yet: %v", account, err)
	}
	if expires.IsZero() || time.Now().Before(expires) {
		delete(w.outdated, s.Path)
	} else if !w.outdated[s.Path].Equal(expires) {
		w.outdated[s.Path] = expires
		w.event(eventWarning, "TokenExpired", "the token of service account \""+account+"\" ("+s.Path+") has expired at "+expires.UTC().Format(time.RFC3339)+
			", and no relay could be asked for another: the pod keeps it and runs on; it gets a new one as soon as the link is back")
	}
	return token, nil
}

// addToken adds a service account token. Its mode and owner are the kubelet's: whoever all containers run as may read it, or the
// pod's fsGroup; only if neither is known everybody may.
func (v *volumes) addToken(p payload, s *corev1.TokenProjection, mode os.FileMode, group int) error {
	token, err := v.token(s)
	if err != nil {
		return err
	}
	user, same := userOfAll(&v.facts.pod.Spec)
	if same || group >= 0 {
		mode = 0o600
	}
	if err := p.add(s.Path, []byte(token), mode); err != nil {
		return err
	}
	f := p[s.Path]
	f.uid = user
	p[s.Path] = f
	return nil
}

// userOfAll returns the user that all of a pod's containers are told to run as. same is false if they are not, or not all are told.
func userOfAll(s *corev1.PodSpec) (user int, same bool) {
	var pod *int64
	if s.SecurityContext != nil {
		pod = s.SecurityContext.RunAsUser
	}
	var found *int64
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			own := pod
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				own = sc.RunAsUser
			}
			if own == nil || found != nil && *found != *own {
				return 0, false
			}
			found = own
		}
	}
	if found == nil {
		return 0, false
	}
	return int(*found), true
}

// tokenNews is what tells of changed tokens; nil if there are none.
func (m *Manager) tokenNews() <-chan struct{} {
	if m.o.Tokens == nil {
		return nil
	}
	return m.o.Tokens.Changed()
}

// tokensChanged wakes the pods whose tokens changed.
func (m *Manager) tokensChanged() {
	uids := m.o.Tokens.Take()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed = time.Now()
	for _, uid := range uids {
		if w := m.workers[uid]; w != nil {
			w.poke()
		}
	}
}

func (m *Manager) forgetTokens(ctx context.Context, uid string) {
	if m.o.Tokens != nil {
		m.o.Tokens.Forget(ctx, uid)
	}
}
