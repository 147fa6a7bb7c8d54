package main

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry/skerry/relay/members"
)

// newMembers makes the relay known to the others. Its requests are few, and have limits of their own: a relay that is busy must not
// look dead.
func (r *relay) newMembers(config *rest.Config) (*members.Members, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 5, 10
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for the relays' Leases: %w", err)
	}
	return members.New(members.Options{
		Client: client, Name: r.cfg.Name, Address: r.cfg.Address, Kubelet: r.cfg.Kubelet.PeerAddress, Metrics: r.set, Log: r.log,
		Agents: func() int {
			if h := r.hub.Load(); h != nil {
				return h.Count()
			}
			return 0
		},
	}), nil
}

// aliveRelays returns the names of the living relays, nil until they are known.
func (r *relay) aliveRelays() map[string]bool {
	if !r.members.Synced() {
		return nil
	}
	names := make(map[string]bool)
	for name := range r.members.Alive() {
		names[name] = true
	}
	return names
}

// runMembers joins the other relays until background ends, and says that this one drains as soon as serving ends.
func (r *relay) runMembers(background, serving context.Context) error {
	defer context.AfterFunc(serving, r.members.Drain)()
	return r.members.Run(background)
}
