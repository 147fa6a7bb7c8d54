package tickets

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Namespace and Secret are where the keys are.
const (
	Namespace = "skerry-system"
	Secret    = "skerry-ticket-keys"
)

const (
	field = "keys"
	// RotateAfter is the age of the newest key at which there shall be another.
	RotateAfter = 12 * time.Hour
	// Keep is how many keys open tickets; a ticket is thus good for up to 36 hours.
	Keep = 3
	// interval is how often a relay reads the Secret.
	interval = time.Minute
	// settle is how long a key is known before it seals: every relay has read it by then.
	settle = 3 * interval
	// maxSecret bounds what is parsed, bytes.
	maxSecret = 64 << 10
	timeout   = 10 * time.Second
	// remind is how often a failure that goes on is logged.
	remind = 30 * time.Minute
)

// Options configures Keys. Client and Apply are required.
type Options struct {
	Client kubernetes.Interface
	// Apply is given the keys, the one that seals first, whenever they change. It must not block.
	Apply func(keys [][32]byte)
	Log   *slog.Logger     // may be nil
	Now   func() time.Time // default time.Now
}

// Keys follows the Secret. Create it with New, and run it.
type Keys struct {
	opts Options

	mu      sync.Mutex
	current [][32]byte
	held    []key     // what current was made of
	logged  time.Time // when a failure was logged last; zero: the last attempt worked
}

// key is one ticket key as the Secret holds it.
type key struct {
	Created time.Time `json:"created"`
	Key     []byte    `json:"key"` // 32 bytes
}

// New returns Keys that hold none until they are run.
func New(o Options) *Keys {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Keys{opts: o}
}

// Current returns the keys that were applied last, nil if none were.
func (k *Keys) Current() [][32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.current)
}

// Run follows the Secret until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := k.refresh(attempt)
		cancel()
		if err != nil {
			k.alone(k.opts.Now())
		}
		k.note(ctx, err)
		t := time.NewTimer(interval - interval/10 + mrand.N(interval/5)) // replicas that start together do not read together
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return ctx.Err()
}

func (k *Keys) note(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		k.logged = time.Time{}
		return
	}
	if now := k.opts.Now(); k.logged.IsZero() || now.Sub(k.logged) >= remind {
		k.logged = now
		k.opts.Log.Warn("the keys of TLS sessions cannot be shared; agents that change relays make full handshakes", slog.Any("error", err))
	}
}

// refresh reads the Secret, rotates if that is due, and applies what it found.
func (k *Keys) refresh(ctx context.Context) error {
	secrets := k.opts.Client.CoreV1().Secrets(Namespace)
	s, err := secrets.Get(ctx, Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no Secret %s/%s: run `skerryctl init` with this release", Namespace, Secret)
	}
	if err != nil {
		return fmt.Errorf("read Secret %s/%s: %w", Namespace, Secret, err)
	}
	now := k.opts.Now()
	keys, err := parse(s.Data[field])
	if err != nil { // edited by hand: nothing is lost by new ones but resumption
		k.opts.Log.Warn("the Secret with the keys of TLS sessions is damaged, it gets a new one", slog.Any("error", err))
		keys = nil
	}
	var failed error
	if due(keys, now) {
		if keys, err = k.rotate(ctx, s, keys, now); err != nil {
			failed = err // the present keys are good for a while
		}
	}
	k.mu.Lock()
	stays := failed != nil && len(k.held) > 0 // what is held may be newer: see alone
	if !stays {
		k.held = keys
	}
	k.mu.Unlock()
	if !stays {
		k.apply(order(keys, now))
	}
	return failed
}

// patience is how long past its time a key goes on sealing while the Secret cannot be read or written.
const patience = time.Hour

// alone replaces a key that is overdue by one of this process: a Secret that is gone must not keep a key alive for ever, and with it
// what was recorded of resumed sessions. Such tickets open at this relay only.
func (k *Keys) alone(now time.Time) {
	k.mu.Lock()
	held := k.held
	if len(held) == 0 || now.Sub(held[0].Created) < RotateAfter+patience {
		k.mu.Unlock()
		return
	}
	// Nobody else has to read it first.
	fresh := key{Created: now.Add(-settle), // it seals at once
		Key: make([]byte, 32)}
	if _, err := rand.Read(fresh.Key); err != nil {
		k.mu.Unlock()
		return
	}
	held = append([]key{fresh}, held...)
	k.held = held[:min(len(held), Keep)]
	keys := order(k.held, now)
	k.mu.Unlock()
	k.apply(keys)
}

// Forget empties the Secret, so that relays make new keys and no ticket opens any more: for keys that others may have.
func Forget(ctx context.Context, c kubernetes.Interface) error {
	secrets := c.CoreV1().Secrets(Namespace)
	s, err := secrets.Get(ctx, Secret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Secret %s/%s: %w", Namespace, Secret, err)
	}
	s.Data = nil
	if _, err := secrets.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write Secret %s/%s: %w", Namespace, Secret, err)
	}
	return nil
}

// due says whether there shall be another key. A key of the future is one of a relay whose clock is ahead, or was.
func due(keys []key, now time.Time) bool {
	return len(keys) == 0 || now.Sub(keys[0].Created) >= RotateAfter || keys[0].Created.Sub(now) >= RotateAfter
}

// rotate puts a new key in front. If another relay was faster, its keys are returned.
func (k *Keys) rotate(ctx context.Context, s *corev1.Secret, keys []key, now time.Time) ([]key, error) {
	fresh := key{Created: now.UTC().Truncate(time.Second), Key: make([]byte, 32)}
	if _, err := rand.Read(fresh.Key); err != nil {
		return keys, err
	}
	next := append([]key{fresh}, keys...)
	next = next[:min(len(next), Keep)]
	b, err := json.Marshal(next)
	if err != nil {
		return keys, err
	}
	s = s.DeepCopy()
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	s.Data[field] = b
	secrets := k.opts.Client.CoreV1().Secrets(Namespace)
	_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
	if err == nil {
		k.opts.Log.Info("a new key for TLS sessions", slog.Int("keys", len(next)))
		return next, nil
	}
	if !apierrors.IsConflict(err) {
		return keys, fmt.Errorf("write Secret %s/%s: %w", Namespace, Secret, err)
	}
	if s, err = secrets.Get(ctx, Secret, metav1.GetOptions{}); err != nil {
		return keys, fmt.Errorf("read Secret %s/%s: %w", Namespace, Secret, err)
	}
	return parse(s.Data[field])
}

// order puts the key that seals first: the newest that all relays know by now. Newer ones only open for the time being.
func order(keys []key, now time.Time) [][32]byte {
	out := make([][32]byte, 0, len(keys))
	for _, k := range keys {
		out = append(out, [32]byte(k.Key))
	}
	for i, k := range keys {
		if age := now.Sub(k.Created); age >= settle {
			seal := out[i]
			return slices.Insert(slices.Delete(out, i, i+1), 0, seal)
		}
	}
	return out // the first one ever: whoever does not know it yet makes a full handshake
}

func (k *Keys) apply(keys [][32]byte) {
	k.mu.Lock()
	same := slices.Equal(k.current, keys)
	if len(keys) > 0 {
		k.current = keys
	}
	k.mu.Unlock()
	if !same && len(keys) > 0 {
		k.opts.Apply(slices.Clone(keys))
	}
}

// parse reads the Secret's field; empty is no keys. The newest comes first.
func parse(b []byte) ([]key, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("it has %d bytes", len(b))
	}
	var keys []key
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, errors.New("it is not a JSON list of keys") // the cause may quote what is secret
	}
	for _, k := range keys {
		if len(k.Key) != 32 || k.Created.IsZero() {
			return nil, fmt.Errorf("a key has %d bytes, or no time", len(k.Key))
		}
	}
	slices.SortStableFunc(keys, func(a, b key) int { return b.Created.Compare(a.Created) })
	return keys[:min(len(keys), Keep)], nil
}
