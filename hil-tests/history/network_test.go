//go:build integration

package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// poor are networks that deliver, sooner or later.
var poor = []string{
	`{"type":"latency","stream":"downstream","attributes":{"latency":300,"jitter":250}}`,
	`{"type":"latency","stream":"upstream","attributes":{"latency":300,"jitter":250}}`,
	`{"type":"bandwidth","stream":"downstream","attributes":{"rate":8}}`,
	`{"type":"slicer","stream":"downstream","attributes":{"average_size":60,"size_variation":40,"delay":2000}}`,
	`{"type":"slicer","stream":"upstream","attributes":{"average_size":60,"size_variation":40,"delay":2000}}`,
	`{"type":"timeout","stream":"downstream","attributes":{"timeout":0}}`, // silent: nothing passes, nobody is told
	`{"type":"timeout","stream":"upstream","attributes":{"timeout":0}}`,
	`{"type":"reset_peer","stream":"downstream","attributes":{"timeout":200}}`,
}

// newProxy stands in front of a relay.
func newProxy(t *testing.T, name, upstream string) *toxiproxy.Proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics have loggers of their own
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), name, "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// spoil makes the network of one relay after the other bad, in another way each time, until ctx ends.
func spoil(ctx context.Context, r *rand.Rand, proxies []*toxiproxy.Proxy) (toxics int, err error) {
	defer func() {
		for _, p := range proxies {
			p.Toxics.ResetToxics(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil {
		p := proxies[r.IntN(len(proxies))]
		doc := poor[r.IntN(len(poor))]
		toxic, err := p.Toxics.AddToxicJson(strings.NewReader(doc))
		if err != nil {
			return toxics, fmt.Errorf("toxic %s: %w", doc, err)
		}
		toxics++
		wait(ctx, time.Duration(200+r.IntN(2500))*time.Millisecond)
		if err := p.Toxics.RemoveToxic(context.WithoutCancel(ctx), toxic.Name); err != nil {
			return toxics, fmt.Errorf("remove toxic %s: %w", doc, err)
		}
		wait(ctx, time.Duration(r.IntN(500))*time.Millisecond)
	}
	return toxics, nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
