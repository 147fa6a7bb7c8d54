package link

import (
	"context"
	"log/slog"

	"github.com/skerry/skerry/firmware/wire"
)

// trace tells, at level debug, which objects came in and which reports went out: where the agent's own time begins and ends. The benchmark of pods
// reads these lines.
func (n *connection) trace(ctx context.Context, f wire.Frame) {
	log := n.c.opts.Log
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	switch f := f.(type) {
	case *wire.CommitPart:
		for i := range f.Put {
			log.DebugContext(ctx, "object received", "key", f.Put[i].Key)
		}
	case *wire.Report:
		for i := range f.Items {
			log.DebugContext(ctx, "report sent", "key", f.Items[i].Key)
		}
	}
}
