//go:build integration

package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/anishathalye/porcupine"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	gateways = 4
	unrest   = 25 * time.Second
	settling = 30 * time.Second
)

// rig is two relays, each behind a network of its own, and gateways that know both.
type rig struct {
	t        *testing.T
	rec      *Recorder
	cluster  *fleet.Cluster
	proxies  []*toxiproxy.Proxy
	gateways []*gateway
	names    []string
	wrote    map[string]int // by register: the last value
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := stacktest.Start(t, stack.Options{NoPods: true})
	var err error
	r := &rig{t: t, rec: NewRecorder(), names: fleet.Names("gw", gateways), wrote: map[string]int{}}
	r.cluster, err = fleet.Connect(t.Context(), s.Kube.REST(), 200)
	r.must(err)
	var addresses []string
	for _, name := range []string{"relay-a", "relay-b"} {
		replica, err := s.Replica(t.Context(), name, map[string]any{"address": ""})
		r.must(err)
		r.must(replica.Start(t.Context()))
		p := newProxy(t, name, replica.At)
		r.proxies = append(r.proxies, p)
		addresses = append(addresses, p.Listen)
	}
	ids, err := fleet.Issue(t.Context(), r.cluster.CA, r.names)
	r.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, id := range ids {
		g := newGateway(r.rec, id, r.cluster.CA.Pool(), append(addresses[i%2:], addresses[:i%2]...))
		r.gateways = append(r.gateways, g)
		r.must(g.register())
		running.Go(func() { _ = g.client.Run(ctx) })
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	limited, done := context.WithTimeout(t.Context(), settling)
	defer done()
	r.must(r.cluster.AwaitNodes(limited, gateways, nil))
	r.must(r.cluster.Create(limited, fleet.Workload{Pods: true, Devices: true}, r.names, nil))
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write gives a register its next value.
func (r *rig) write(ctx context.Context, register string) {
	value := r.wrote[register] + 1
	r.rec.Writes("cloud", register, value)
	var err error
	if register == "configMap" {
		err = r.cluster.SetConfigMap(ctx, fleet.Everyone(), value, 300)
	} else {
		err = r.cluster.SetDesired(ctx, []string{register[len("desired "):]}, value, nil)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.t.Errorf("write %s: %v", register, err)
		}
		return
	}
	r.wrote[register] = value
}

// observe follows the DeviceStatuses from the beginning, in the API server's order.
func (r *rig) observe(ctx context.Context) error {
	client := r.cluster.Dynamic.Resource(stack.DeviceStatuses).Namespace(fleet.Namespace)
	for rv := "0"; ctx.Err() == nil; {
		w, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: rv})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch DeviceStatuses: %w", err)
		}
		for e := range w.ResultChan() {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				w.Stop()
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch DeviceStatuses: %v", e.Object)
			}
			rv = u.GetResourceVersion()
			if vs := stack.ReadDeviceState(u).Values; len(vs) > 0 {
				value, err := strconv.Atoi(vs[0].Value)
				if err != nil {
					w.Stop()
					return fmt.Errorf("DeviceStatus %s: %w", u.GetName(), err)
				}
				r.rec.Sees("API", "reported "+u.GetName()[len("device-"):], value)
			}
		}
		w.Stop()
	}
	return nil
}

// play writes and reports through bad networks for a while.
func (r *rig) play(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() {
		toxics, err := spoil(ctx, rand.New(rand.NewPCG(1, 2)), r.proxies)
		r.t.Logf("%d toxics", toxics)
		if err != nil {
			r.t.Error(err)
		}
	})
	all.Go(func() {
		random := rand.New(rand.NewPCG(3, 4))
		for ctx.Err() == nil {
			r.write(context.WithoutCancel(ctx), "configMap")
			r.write(context.WithoutCancel(ctx), "desired "+r.names[random.IntN(gateways)])
			wait(ctx, time.Duration(random.IntN(400))*time.Millisecond)
		}
	})
	all.Go(func() {
		random := rand.New(rand.NewPCG(5, 6))
		for ctx.Err() == nil {
			if err := r.gateways[random.IntN(gateways)].report(); err != nil {
				r.t.Error(err)
			}
			wait(ctx, time.Duration(random.IntN(150))*time.Millisecond)
		}
	})
	all.Wait()
}

// settle waits until everybody has the last values, and has them read.
func (r *rig) settle() {
	r.t.Helper()
	end := time.Now().Add(settling)
	for {
		late := ""
		for _, g := range r.gateways {
			for _, register := range []string{"configMap", "desired " + g.name} {
				if have := g.held(register); have != r.wrote[register] {
					late = fmt.Sprintf("%s has %s %d, %d was written last (%+v)", g.name, register, have, r.wrote[register], g.client.Status())
				}
			}
			values, err := r.cluster.Values(r.t.Context())
			r.must(err)
			if have := values[g.name]; int(have) != g.made {
				late = fmt.Sprintf("the API has %d of %s, %d was reported last (%v)", have, g.name, g.made, values)
			}
		}
		if late == "" {
			break
		}
		if time.Now().After(end) {
			r.t.Errorf("%v after the last fault: %s", settling, late)
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.rec.Rest()
	values, err := r.cluster.Values(r.t.Context())
	r.must(err)
	for _, g := range r.gateways {
		for _, register := range []string{"configMap", "desired " + g.name} {
			r.rec.Sees(g.name, register, g.held(register))
		}
		r.rec.Sees("API", "reported "+g.name, int(values[g.name]))
	}
}

// TestHistory: what agents and the API server saw of each other through bad networks is what the link promises.
func TestHistory(t *testing.T) {
	r := newRig(t)
	background, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		if err := r.observe(background); err != nil {
			t.Error(err)
		}
	})
	limited, cancel := context.WithTimeout(t.Context(), unrest)
	r.play(limited)
	cancel()
	r.settle()
	stop()
	watching.Wait()
	r.judge()
}

// judge asks porcupine.
func (r *rig) judge() {
	sessions := uint64(0)
	for _, g := range r.gateways {
		sessions += g.client.Status().Sessions
		if err := g.Err(); err != nil {
			r.t.Errorf("%s: promises broken: %v", g.name, err)
		}
	}
	if sessions < 2*gateways {
		r.t.Errorf("%d sessions of %d gateways: the network was not bad", sessions, gateways)
	}
	ops, reads := r.rec.Operations(), map[string]int{}
	for _, op := range ops {
		if in := op.Input.(call); !in.write {
			reads[in.register]++
		}
	}
	r.t.Logf("%d operations in %d sessions; reads: %v", len(ops), sessions, reads)
	for register, n := range reads {
		if n < 10 {
			r.t.Errorf("%s was read %d times only", register, n)
		}
	}
	if len(reads) != 1+2*gateways {
		r.t.Errorf("%d registers were read, there are %d", len(reads), 1+2*gateways)
	}
	res, info := porcupine.CheckOperationsVerbose(Register(), ops, time.Minute)
	if res != porcupine.Ok {
		path := filepath.Join(os.TempDir(), "skerry-history.html")
		if err := porcupine.VisualizePath(Register(), info, path); err != nil {
			r.t.Error(err)
		}
		r.t.Errorf("the history is %v: see %s", res, path)
	}
	r.doctor(ops)
}

// doctor has two reads of one agent change places, and expects porcupine to notice.
func (r *rig) doctor(ops []porcupine.Operation) {
	first := -1
	for i := range ops {
		if in := ops[i].Input.(call); in.write || in.register != "configMap" {
			continue
		}
		if first < 0 || ops[first].ClientId != ops[i].ClientId {
			first = i
			continue
		}
		if ops[first].Output != ops[i].Output {
			ops[first].Output, ops[i].Output = ops[i].Output, ops[first].Output
			if porcupine.CheckOperations(Register(), ops) {
				r.t.Error("porcupine takes a history in which a gateway went back in time")
			}
			return
		}
	}
	r.t.Error("no two reads to exchange")
}
