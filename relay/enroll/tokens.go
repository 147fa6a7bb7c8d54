package enroll

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/wire/join"
)

// SecretType is the type of the Secrets that hold join tokens.
const SecretType corev1.SecretType = "skerry.dev/join-token"

// TokenLabel marks the Secrets that hold join tokens; its value is "true".
const TokenLabel = "skerry.dev/join-token"

const (
	secretPrefix = "skerry-join-"
	fieldNode    = "node"
	fieldHash    = "secret-sha256"
	fieldExpires = "expires"
	fieldKey     = "key-sha256"
	fieldBoundAt = "bound-at"
)

// MaxTTL is the longest life of a join token.
const MaxTTL = 30 * 24 * time.Hour

const (
	// MaxTokens bounds the tokens of a cluster: each is a Secret.
	MaxTokens = 10_000
	// MaxBatch bounds those that one call makes.
	MaxBatch = 2_000
	// KeepExpired is how long a token stays in the list after its end, for whoever asks who joined with it.
	KeepExpired = 14 * 24 * time.Hour
)

// maxNodeName is the longest name of a node, bytes: it is also the value of the Node's label kubernetes.io/hostname.
const maxNodeName = validation.LabelValueMaxLength

// ErrNoToken is returned for a token that does not exist.
var ErrNoToken = errors.New("no such join token")

// ErrRevoked is returned for tokens of nodes that are revoked.
var ErrRevoked = errors.New("revoked nodes")

// TokenInfo is what the cluster knows of a token. The secret is not in it.
type TokenInfo struct {
	ID      string    `json:"id"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	BoundAt time.Time `json:"boundAt,omitzero"`  // zero: not used yet
	BoundTo string    `json:"boundTo,omitempty"` // SHA-256 of the public key, in hex
}

// State says where the token is in its life: unused, used, expired, or "used, expired".
func (t TokenInfo) State(now time.Time) string {
	used, expired := t.BoundTo != "", !now.Before(t.Expires)
	switch {
	case used && expired:
		return "used, expired"
	case expired:
		return "expired"
	case used:
		return "used"
	}
	return "unused"
}

// Tokens keeps join tokens as Secrets.
type Tokens struct {
	client kubernetes.Interface
	now    func() time.Time
}

// NewTokens returns the tokens of a cluster. now is nil for the real clock.
func NewTokens(c kubernetes.Interface, now func() time.Time) *Tokens {
	if now == nil {
		now = time.Now
	}
	return &Tokens{client: c, now: now}
}

// Create makes a token for node that is valid for ttl, and returns it with the secret, which nobody can read again.
func (t *Tokens) Create(ctx context.Context, ca *CA, node string, ttl time.Duration) (join.Token, TokenInfo, error) {
	if err := checkToken(node, ttl); err != nil {
		return join.Token{}, TokenInfo{}, err
	}
	token := join.Token{Node: node, CA: ca.Certificate()}
	var id [10]byte
	if _, err := rand.Read(id[:]); err != nil {
		return join.Token{}, TokenInfo{}, err
	}
	if _, err := rand.Read(token.Secret[:]); err != nil {
		return join.Token{}, TokenInfo{}, err
	}
	token.ID = strings.ToLower(base32.StdEncoding.EncodeToString(id[:]))
	hash := sha256.Sum256(token.Secret[:])
	now := t.now().UTC().Truncate(time.Second)
	info := TokenInfo{ID: token.ID, Node: node, Created: now, Expires: now.Add(ttl)}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: secretPrefix + token.ID, Namespace: Namespace, Labels: map[string]string{TokenLabel: "true"}},
		Type:       SecretType,
		Data: map[string][]byte{
			fieldNode:    []byte(node),
			fieldHash:    []byte(hex.EncodeToString(hash[:])),
			fieldExpires: []byte(info.Expires.Format(time.RFC3339)),
		},
	}
	if _, err := t.client.CoreV1().Secrets(Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return join.Token{}, TokenInfo{}, fmt.Errorf("create Secret %s/%s: %w", Namespace, secret.Name, err)
	}
	return token, info, nil
}

// CreateAll makes a token for each node, in their order, and calls made for each as soon as it exists. Names are checked before the
// first one is made, and if one of them is revoked, none is: ErrRevoked. If it fails later, the tokens that made was called for are good.
func (t *Tokens) CreateAll(ctx context.Context, ca *CA, nodes []string, ttl time.Duration, made func(join.Token, TokenInfo) error) error {
	if len(nodes) == 0 || len(nodes) > MaxBatch {
		return fmt.Errorf("%d tokens cannot be made at once: allowed are 1 to %d", len(nodes), MaxBatch)
	}
	seen := make(map[string]bool, len(nodes))
	for i, node := range nodes {
		if err := checkToken(node, ttl); err != nil {
			return fmt.Errorf("name %d: %w", i+1, err)
		}
		if seen[node] {
			return fmt.Errorf("name %d: %q is there twice", i+1, node)
		}
		seen[node] = true
	}
	if err := t.noneRevoked(ctx, nodes); err != nil {
		return err
	}
	list, err := t.List(ctx)
	if err != nil {
		return err
	}
	if len(list)+len(nodes) > MaxTokens {
		return fmt.Errorf("the cluster has %d join tokens, and may have %d: `skerryctl token prune` deletes those that have expired", len(list), MaxTokens)
	}
	for i, node := range nodes {
		token, info, err := t.Create(ctx, ca, node, ttl)
		if err == nil {
			err = made(token, info)
		}
		if err != nil {
			return fmt.Errorf("token %d of %d, for node %q: %w", i+1, len(nodes), node, err)
		}
	}
	return nil
}

// noneRevoked says which nodes are revoked: relays would refuse their tokens, and nobody would know before somebody stands at the gateway.
// Without a list relays decide by what they remember.
func (t *Tokens) noneRevoked(ctx context.Context, nodes []string) error {
	list, err := ListRevoked(ctx, t.client)
	if errors.Is(err, ErrNoRevoked) {
		return nil
	}
	if err != nil {
		return err
	}
	var out []string
	for _, node := range nodes {
		if r, ok := list[node]; ok && r.Restored.IsZero() {
			out = append(out, node)
		}
	}
	if len(out) == 0 {
		return nil
	}
	if len(out) == 1 {
		return fmt.Errorf("%w: %s: no token was made, since none would let it join: run `skerryctl node restore %s` first", ErrRevoked, out[0], out[0])
	}
	return fmt.Errorf("%w: %s: no token was made, since none would let them join: run `skerryctl node restore NAME` for each first, or take it from the list", ErrRevoked, strings.Join(out, ", "))
}

// Prune deletes tokens that expired longer ago than age, and returns how many.
func (t *Tokens) Prune(ctx context.Context, age time.Duration) (n int, err error) {
	list, err := t.List(ctx)
	if err != nil {
		return 0, err
	}
	for _, info := range list {
		if t.now().Sub(info.Expires) < age {
			continue
		}
		if err := t.Delete(ctx, info.ID); err != nil && !errors.Is(err, ErrNoToken) {
			return n, err
		}
		n++
	}
	return n, nil
}

func checkToken(node string, ttl time.Duration) error {
	if len(validation.IsDNS1123Subdomain(node)) > 0 || len(node) > maxNodeName {
		return fmt.Errorf("%q cannot be a node's name: use at most %d lower-case letters, digits, '-' and '.', with a letter or digit at both ends", node, maxNodeName)
	}
	if ttl <= 0 || ttl > MaxTTL {
		return fmt.Errorf("a token cannot be valid for %s: allowed are up to %s", ttl, MaxTTL)
	}
	return nil
}

// List returns all tokens, oldest first. A Secret that is not a token any more (edited by hand) is left out.
func (t *Tokens) List(ctx context.Context) ([]TokenInfo, error) {
	list, err := t.client.CoreV1().Secrets(Namespace).List(ctx, metav1.ListOptions{LabelSelector: TokenLabel + "=true"})
	if err != nil {
		return nil, fmt.Errorf("list the join tokens in %s: %w", Namespace, err)
	}
	var out []TokenInfo
	for i := range list.Items {
		if info, _, err := parseToken(&list.Items[i]); err == nil {
			out = append(out, info)
		}
	}
	slices.SortFunc(out, func(a, b TokenInfo) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Delete removes a token. Certificates that it led to stay valid.
func (t *Tokens) Delete(ctx context.Context, id string) error {
	if !join.ValidID(id) {
		return fmt.Errorf("%w: %q", ErrNoToken, id)
	}
	err := t.client.CoreV1().Secrets(Namespace).Delete(ctx, secretPrefix+id, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %q", ErrNoToken, id)
	}
	return err
}

// bindAttempts bounds how often a bind that lost a race is tried again. Each loser re-reads and sees the winner, so that
// more than a few rounds mean something else is writing the Secret.
const bindAttempts = 5

// bind checks secret and node against the token and binds it to the key whose hash is given, unless it is bound to it
// already. Refusals are *join.Refusal; other errors are the API server's.
func (t *Tokens) bind(ctx context.Context, req join.Request, keyHash string) error {
	secrets := t.client.CoreV1().Secrets(Namespace)
	for attempt := 1; ; attempt++ {
		s, err := secrets.Get(ctx, secretPrefix+req.TokenID, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return refuseUnknown()
		}
		if err != nil {
			return fmt.Errorf("read the join token: %w", err)
		}
		info, hash, err := parseToken(s)
		if err != nil {
			return refuseUnknown()
		}
		// Before the secret is proven, nothing about the token is told, not even that it exists.
		got := sha256.Sum256(req.Secret)
		if subtle.ConstantTimeCompare(got[:], hash) != 1 {
			return refuseUnknown()
		}
		switch {
		case info.Node != req.Node:
			return refuseWrongNode(info.Node, req.Node)
		case !t.now().Before(info.Expires):
			return refuseExpired(info)
		case info.BoundTo == keyHash:
			return nil
		case info.BoundTo != "":
			return refuseUsed(info)
		}
		s.Data[fieldKey] = []byte(keyHash)
		s.Data[fieldBoundAt] = []byte(t.now().UTC().Format(time.RFC3339))
		_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == bindAttempts {
			return fmt.Errorf("bind the join token to its key: %w", err)
		}
	}
}

func parseToken(s *corev1.Secret) (TokenInfo, []byte, error) {
	id, ok := strings.CutPrefix(s.Name, secretPrefix)
	if !ok || s.Type != SecretType {
		return TokenInfo{}, nil, fmt.Errorf("object %s is not a join token", s.Name)
	}
	expires, err := time.Parse(time.RFC3339, string(s.Data[fieldExpires]))
	if err != nil {
		return TokenInfo{}, nil, fmt.Errorf("join token %s: expiry: %w", id, err)
	}
	hash, err := hex.DecodeString(string(s.Data[fieldHash]))
	if err != nil || len(hash) != sha256.Size {
		return TokenInfo{}, nil, fmt.Errorf("join token %s: the hash of its secret is damaged", id)
	}
	info := TokenInfo{ID: id, Node: string(s.Data[fieldNode]), Created: s.CreationTimestamp.UTC(), Expires: expires, BoundTo: string(s.Data[fieldKey])}
	if b := s.Data[fieldBoundAt]; len(b) > 0 {
		if info.BoundAt, err = time.Parse(time.RFC3339, string(b)); err != nil {
			return TokenInfo{}, nil, fmt.Errorf("join token %s: time of binding: %w", id, err)
		}
	}
	return info, hash, nil
}
