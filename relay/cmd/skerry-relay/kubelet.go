package main

import (
	"context"
	"fmt"
	"net"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skerry/skerry/relay/config"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/kube"
	"github.com/skerry/skerry/relay/kubelet"
)

// reviewsPerSecond bounds what the kubelet port asks of the API server: reviews, Leases of nodes that are connected elsewhere, and ports. It is
// apart from the budget for status, so that a log that is asked for does not wait behind ten thousand nodes.
const (
	reviewsPerSecond = 100
	reviewsAtOnce    = 200
)

// kubeletEndpoint is what nodes say of their kubelet API; nil if the relay does not serve it.
func kubeletEndpoint(k config.Kubelet) *kube.KubeletEndpoint {
	if !k.On() {
		return nil
	}
	return &kube.KubeletEndpoint{Address: k.Address, Domain: k.Domain, Port: int32(k.Port)} //nolint:gosec // checked to be a port
}

// newKubelet opens the kubelet port; nil if it is switched off.
func (r *relay) newKubelet(ctx context.Context, config *rest.Config) (*kubelet.Server, error) {
	k := r.cfg.Kubelet
	if !k.On() {
		return nil, nil
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = reviewsPerSecond, reviewsAtOnce
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for the kubelet port: %w", err)
	}
	if k.PeerAddress == "" {
		r.log.Warn("kubelet.peerAddress is not set: with several relays, requests for nodes that are connected here fail if they arrive at another")
	}
	dns, uri := kubelet.PeerNames(r.cfg.Name)
	names := []string{k.Address}
	if k.Domain != "" {
		names = append(names, "*."+k.Domain)
	}
	peer := enroll.NewPeer(r.ca, dns, uri, names...)
	return kubelet.New(ctx, kubelet.Options{
		Name: r.cfg.Name, Listen: k.Listen, Client: client, Pods: r.index,
		Sessions: func() kubelet.Sessions {
			if h := r.hub.Load(); h != nil {
				return h
			}
			return nil
		},
		Peer: func(name string) kubelet.Peer {
			m, alive := r.members.Alive()[name]
			return kubelet.Peer{Address: m.Kubelet, Alive: alive}
		},
		Identity: func() (kubelet.Identity, error) {
			cert, roots, err := peer.Identity()
			return kubelet.Identity{Certificate: cert, Roots: roots}, err
		},
		Domain: k.Domain, Ports: r.kubeletPorts(), ClientCAFile: k.ClientCAFile, CertFile: k.CertFile, KeyFile: k.KeyFile, Idle: k.IdleTimeout,
		Metrics: r.set, Log: r.log,
	})
}

// kubeletPorts gives nodes ports of their own; nil if they have none.
func (r *relay) kubeletPorts() *kubelet.Ports {
	first, last, ok := r.cfg.Kubelet.Range()
	if !ok {
		return nil
	}
	host, _, _ := net.SplitHostPort(r.cfg.Kubelet.Listen)
	return kubelet.NewPorts(kubelet.PortsOptions{
		Host: host, First: first, Last: last, Nodes: r.index.KubeletPorts, Record: r.index.RecordKubeletPort, Log: r.log,
		Mine: func(node string) bool {
			h := r.hub.Load()
			return h != nil && h.Connected(node)
		},
	})
}
