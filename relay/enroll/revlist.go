package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// RevokedMap is the ConfigMap that lists revoked nodes: one key for each, its value is a Revocation as JSON. It is not an
// annotation of the Node, because a node reports its own annotations, and a Node can be deleted.
const RevokedMap = "skerry-revoked"

const (
	// maxRevokedBytes bounds names and entries together. The API server's limit for a ConfigMap is 1 MiB. An entry with a name
	// and a reason of 20 letters each has 130 bytes: 7,000 of them fit; 3,300 of the largest do.
	maxRevokedBytes = 900 << 10
	maxReason       = 120 // bytes
	// restoreMargin is how far the clocks of operator and relays may differ: certificates begin nodeBackdate before they were
	// signed, so one from before a revocation and one from after it are apart by that much, and half of it is either side's.
	restoreMargin = nodeBackdate / 2
	// PruneAfter is how old a revocation is when it may be forgotten: by then no certificate from before it can be renewed any more,
	// however long relays let certificates live. The day is for clocks that differ.
	PruneAfter = MaxLifetime + DefaultAbsence + day
)

// Revocation is one node's entry in the list. Fields that this release does not know are ignored; what cannot be read as
// JSON at all (written by hand, say) revokes.
type Revocation struct {
	Revoked time.Time `json:"revoked"`
	Reason  string    `json:"reason,omitempty"`
	// NotBefore separates certificates: those that begin before it are refused for ever, also after the node was restored.
	NotBefore time.Time `json:"notBefore"`
	// Restored is when the node was allowed to join again; zero: it is not.
	Restored time.Time `json:"restored,omitzero"`
}

// refuses says whether a certificate that begins at issued is refused.
func (r Revocation) refuses(issued time.Time) bool {
	return r.Restored.IsZero() || !issued.After(r.NotBefore)
}

// parseRevocation reads an entry. `TIME REASON` is what one may write by hand.
func parseRevocation(value string) Revocation {
	var r Revocation
	if err := json.Unmarshal([]byte(value), &r); err == nil {
		if r.NotBefore.IsZero() {
			r.NotBefore = r.Revoked.Add(-restoreMargin)
		}
		if r.Revoked.IsZero() { // nothing to tell old certificates from new ones by
			r.Restored = time.Time{}
		}
		return r
	}
	r = Revocation{Reason: value}
	stamp, reason, _ := strings.Cut(strings.TrimSpace(value), " ")
	if at, err := time.Parse(time.RFC3339, stamp); err == nil {
		r = Revocation{Revoked: at, Reason: reason, NotBefore: at.Add(-restoreMargin)}
	}
	return r
}

func (r Revocation) encode() (string, error) {
	b, err := json.Marshal(r)
	return string(b), err
}

// Errors of editing the list.
var (
	ErrNotRevoked  = errors.New("the node is not revoked")
	ErrRevokedFull = errors.New("the list of revoked nodes is full")
	ErrNoRevoked   = errors.New("the list of revoked nodes is missing")
)

// InitRevoked makes the empty list, and says whether it did. Relays serve nobody without it, since they would not know who is
// revoked.
func InitRevoked(ctx context.Context, c kubernetes.Interface) (created bool, err error) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: RevokedMap, Namespace: Namespace}}
	_, err = c.CoreV1().ConfigMaps(Namespace).Create(ctx, cm, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
	}
	return true, nil
}

// Revoke puts node on the list, with the reason, and deletes its join tokens. What was issued to it until now is refused from then
// on, also if the node is restored later. If the list is full, entries that are older than PruneAfter are dropped first, and no others: it fails with
// ErrRevokedFull rather than let anybody in again.
func Revoke(ctx context.Context, c kubernetes.Interface, node, reason string, now time.Time) error {
	if len(reason) > maxReason {
		return fmt.Errorf("the reason has %d bytes; allowed are %d", len(reason), maxReason)
	}
	now = now.UTC().Truncate(time.Second)
	value, err := Revocation{Revoked: now, Reason: reason, NotBefore: now.Add(-restoreMargin)}.encode()
	if err != nil {
		return err
	}
	err = editRevoked(ctx, c, func(data map[string]string) error {
		data[node] = value
		if revokedSize(data) > maxRevokedBytes {
			prune(data, now, PruneAfter)
		}
		if n := revokedSize(data); n > maxRevokedBytes {
			return fmt.Errorf("%w: %d entries, %d of %d bytes: the node is not revoked; nobody was forgotten whose certificate may be good still. Make room with `skerryctl node prune --older-than DURATION --yes`, which lets the gateways of older revocations connect again, and revoke it again", ErrRevokedFull, len(data)-1, n, maxRevokedBytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := deleteTokensOf(ctx, c, node); err != nil {
		return fmt.Errorf("node %s is revoked, but its join tokens are not deleted, and would let it join once it is restored: %w: revoke it again", node, err)
	}
	return nil
}

// Restore lets a revoked node join again, with a new token. Certificates from before its revocation stay refused; with
// trustOldKey they are good again, because the entry goes away: for a revocation that was a mistake.
func Restore(ctx context.Context, c kubernetes.Interface, node string, trustOldKey bool, now time.Time) error {
	return editRevoked(ctx, c, func(data map[string]string) error {
		value, ok := data[node]
		if !ok {
			return fmt.Errorf("%w: %q", ErrNotRevoked, node)
		}
		if trustOldKey {
			delete(data, node)
			return nil
		}
		r := parseRevocation(value)
		r.Restored = now.UTC().Truncate(time.Second)
		if r.Revoked.IsZero() { // written by hand, without a time
			r.Revoked, r.NotBefore, r.Reason = r.Restored, r.Restored.Add(-restoreMargin), ""
		}
		text, err := r.encode()
		data[node] = text
		return err
	})
}

// ListRevoked returns the entries by node. It fails with ErrNoRevoked if the list does not exist.
func ListRevoked(ctx context.Context, c kubernetes.Interface) (map[string]Revocation, error) {
	cm, err := c.CoreV1().ConfigMaps(Namespace).Get(ctx, RevokedMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, errNoRevoked()
	}
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
	}
	return parseRevoked(cm.Data), nil
}

func errNoRevoked() error {
	return fmt.Errorf("%w (ConfigMap %s/%s): restore it from a backup, or give up what it said with `skerryctl init --new-revocation-list`", ErrNoRevoked, Namespace, RevokedMap)
}

func parseRevoked(data map[string]string) map[string]Revocation {
	out := make(map[string]Revocation, len(data))
	for node, value := range data {
		out[node] = parseRevocation(value)
	}
	return out
}

// PruneRevoked drops the entries of revocations that are older than age, and returns their nodes.
func PruneRevoked(ctx context.Context, c kubernetes.Interface, age time.Duration, now time.Time) (gone []string, err error) {
	err = editRevoked(ctx, c, func(data map[string]string) error {
		gone = prune(data, now, age)
		return nil
	})
	return gone, err
}

func prune(data map[string]string, now time.Time, age time.Duration) (gone []string) {
	for node, value := range data {
		if r := parseRevocation(value); !r.Revoked.IsZero() && now.Sub(r.Revoked) > age {
			delete(data, node)
			gone = append(gone, node)
		}
	}
	return gone
}

func revokedSize(data map[string]string) (n int) {
	for k, v := range data {
		n += len(k) + len(v)
	}
	return n
}

func editRevoked(ctx context.Context, c kubernetes.Interface, edit func(map[string]string) error) error {
	maps := c.CoreV1().ConfigMaps(Namespace)
	for attempt := 1; ; attempt++ {
		cm, err := maps.Get(ctx, RevokedMap, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errNoRevoked()
		}
		if err != nil {
			return fmt.Errorf("read ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
		}
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		if err := edit(cm.Data); err != nil {
			return err
		}
		if _, err = maps.Update(ctx, cm, metav1.UpdateOptions{}); err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == 5 {
			return fmt.Errorf("write ConfigMap %s/%s: %w", Namespace, RevokedMap, err)
		}
	}
}

func deleteTokensOf(ctx context.Context, c kubernetes.Interface, node string) error {
	tokens := NewTokens(c, nil)
	list, err := tokens.List(ctx)
	if err != nil {
		return err
	}
	for _, t := range list {
		if t.Node != node {
			continue
		}
		if err := tokens.Delete(ctx, t.ID); err != nil && !errors.Is(err, ErrNoToken) {
			return err
		}
	}
	return nil
}
