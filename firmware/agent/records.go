package agent

import (
	"context"

	"github.com/skerry/skerry/firmware/store"
)

// records keeps in the store what belongs to pods but is not desired state: service account tokens, and whose credentials opened which image.
type records struct{ store *store.Store }

func (r records) Scan(prefix string, fn func(key string, record []byte) error) error {
	return r.store.Scan(store.SpacePod, prefix, fn)
}

func (r records) Put(ctx context.Context, key string, record []byte) error {
	var b store.Batch
	b.Put(store.SpacePod, key, record)
	return r.store.Commit(ctx, b)
}

func (r records) Delete(ctx context.Context, keys ...string) error {
	var b store.Batch
	for _, key := range keys {
		b.Delete(store.SpacePod, key)
	}
	return r.store.Commit(ctx, b)
}
