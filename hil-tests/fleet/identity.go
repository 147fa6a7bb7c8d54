package fleet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/relay/enroll"
)

// certificateLife is long enough for any run.
const certificateLife = 24 * time.Hour

// Names returns n node names that sort in their order.
func Names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return out
}

// Issue makes a key and a certificate for each name, signed with the CA as the relay would after an enrolment.
func Issue(ctx context.Context, ca *enroll.CA, names []string) ([]Identity, error) {
	out := make([]Identity, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, name := range names {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return err
			}
			cert, err := ca.IssueNode(name, key, time.Now(), certificateLife)
			if err != nil {
				return fmt.Errorf("sign the certificate of %s: %w", name, err)
			}
			out[i] = Identity{Node: name, Certificate: cert}
			return nil
		})
	}
	return out, g.Wait()
}

// Enroll joins name through the relay's real endpoint with a token of its own, and returns the identity that the gateway
// would keep.
func Enroll(ctx context.Context, core kubernetes.Interface, ca *enroll.CA, relay, name string) (Identity, error) {
	token, _, err := enroll.NewTokens(core, time.Now).Create(ctx, ca, name, 10*time.Minute)
	if err != nil {
		return Identity{}, fmt.Errorf("token for %s: %w", name, err)
	}
	dir, err := os.MkdirTemp("", "skerry-fleet-")
	if err != nil {
		return Identity{}, fmt.Errorf("folder for the identity of %s: %w", name, err)
	}
	defer os.RemoveAll(dir)
	id, err := identity.Enroll(ctx, identity.EnrollOptions{Addresses: []string{relay}, Token: token.String(), Dir: filepath.Join(dir, name)})
	if err != nil {
		return Identity{}, fmt.Errorf("enrol %s: %w", name, err)
	}
	cfg, err := id.TLSConfig()
	if err != nil {
		return Identity{}, fmt.Errorf("identity of %s: %w", name, err)
	}
	return Identity{Node: name, Certificate: cfg.Certificates[0]}, nil
}
