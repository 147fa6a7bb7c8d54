package agent

import (
	"context"
	"fmt"
	"net"

	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/tokens"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/cloud"
)

// tokenRecords keeps service account tokens in the store.
type tokenRecords struct{ store *store.Store }

func (t tokenRecords) Scan(prefix string, fn func(key string, record []byte) error) error {
	return t.store.Scan(store.SpacePod, prefix, fn)
}

func (t tokenRecords) Put(ctx context.Context, key string, record []byte) error {
	var b store.Batch
	b.Put(store.SpacePod, key, record)
	return t.store.Commit(ctx, b)
}

func (t tokenRecords) Delete(ctx context.Context, keys ...string) error {
	var b store.Batch
	for _, key := range keys {
		b.Delete(store.SpacePod, key)
	}
	return t.store.Commit(ctx, b)
}

// openTokens opens the keeper of service account tokens.
func (a *Agent) openTokens(ctx context.Context) (*tokens.Keeper, error) {
	k, err := tokens.Open(ctx, tokens.Options{
		Store:     tokenRecords{a.store},
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
