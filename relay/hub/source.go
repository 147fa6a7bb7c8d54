package hub

import (
	"context"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/relay/session"
)

// Source tells what nodes should hold, and when that may have changed. relay/kube implements it over informers.
type Source interface {
	session.Source
	// Subscribe calls notify, which does not block, whenever a key of node may have changed, appeared or gone.
	Subscribe(node string, notify func(wire.Key)) (cancel func())
}

// Sink takes what agents report. relay/kube implements it over the Kubernetes API.
type Sink interface {
	// SessionStarted claims the node's Lease for the session; older epochs are fenced from then on. It may block.
	SessionStarted(ctx context.Context, node string, epoch uint64) error
	// SessionEnded says that no more comes from the session.
	SessionEnded(node string, epoch uint64)
	// Report takes a status document that the node is allowed to write. It does not block: newest body of a key wins, and it is
	// written in the background.
	Report(node string, epoch uint64, key wire.Key, body []byte)
	// OfferedAll reports whether exactly the node's documents whose wire.OfferSum is sum have been written and are still as they
	// were written; false makes the agent offer them one by one. It does not block.
	OfferedAll(node string, epoch uint64, sum wire.Sum) bool
	// Offered returns the keys of those documents of the node whose body it needs: not written, or changed by somebody else
	// since. Many documents come in several calls. It does not block.
	Offered(node string, epoch uint64, items []wire.OfferItem) (want []wire.Key)
	// Outbox stores the items; nil means that the agent may forget them. Items may come twice. It may block.
	Outbox(ctx context.Context, node string, items []wire.OutboxItem) error
}
