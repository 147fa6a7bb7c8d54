package agent

import (
	"context"

	"github.com/skerry/skerry/firmware/containerd"
	"github.com/skerry/skerry/firmware/pods"
)

// pullProgress asks containerd what it fetches. Other runtimes do not know the question.
func pullProgress(c *containerd.Client) pods.PullProgress {
	return func(ctx context.Context) (map[string]pods.PullPart, error) {
		list, err := c.Pulls(ctx)
		if err != nil {
			return nil, err
		}
		out := map[string]pods.PullPart{}
		for _, p := range list {
			out[p.Ref] = pods.PullPart{Have: p.Offset, Total: p.Total}
		}
		return out, nil
	}
}
