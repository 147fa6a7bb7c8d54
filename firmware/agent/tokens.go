package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/skerry/skerry/firmware/tokens"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
)

// openTokens opens the keeper of service account tokens.
func (a *Agent) openTokens(ctx context.Context) (*tokens.Keeper, error) {
	k, err := tokens.Open(ctx, tokens.Options{
		Store:     records{a.store},
		Dial:      func(ctx context.Context) (net.Conn, error) { return a.link.Dial(ctx, cloud.Service) },
		Connected: func() bool { return a.link.Status().Connected },
		Wanted:    a.podWanted(),
		Log:       a.log.With("part", "tokens"),
	})
	if err != nil {
		return nil, fmt.Errorf("read the service account tokens: %w", err)
	}
	return k, nil
}

// podWanted reports whether a pod is still this node's. While the store is not whole all are.
func (a *Agent) podWanted() func(uid string) bool {
	uids := map[string]bool{}
	for _, o := range a.desired.List(wire.KindPod) {
		uids[o.Key.UID()] = true
	}
	return func(uid string) bool { return uids[uid] || !a.whole.Complete() }
}
