package kube

import (
	"errors"
	"fmt"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ClientOptions says how to reach the API server.
type ClientOptions struct {
	Kubeconfig string // path; empty: the service account of the pod, else $KUBECONFIG, else ~/.kube/config
	QPS        float64
	Burst      int
	Metrics    *Metrics // nil: not measured
}

// Clients are the relay's ways to the API server. Leases have limits of their own, as in the kubelet: a storm of status
// writes must not let a node's Lease expire.
type Clients struct {
	Config *rest.Config // for other clients (enrolment); requests through it are counted, too
	API    dynamic.Interface
	Leases dynamic.Interface
}

// Connect reads the configuration and makes the clients. It sends nothing.
func Connect(opts ClientOptions) (*Clients, error) {
	config, err := loadConfig(opts.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = fieldManager
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.QPS, config.Burst = float32(opts.QPS), opts.Burst
	config.Wrap(opts.Metrics.Wrap)
	leases := rest.CopyConfig(config)
	out := &Clients{Config: config}
	if out.API, err = dynamic.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a Kubernetes client: %w", err)
	}
	if out.Leases, err = dynamic.NewForConfig(leases); err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for leases: %w", err)
	}
	return out, nil
}

func loadConfig(path string) (*rest.Config, error) {
	if path == "" {
		config, err := rest.InClusterConfig()
		if err == nil {
			return config, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, fmt.Errorf("service account of this pod: %w", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // $KUBECONFIG, ~/.kube/config
	rules.ExplicitPath = path
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no Kubernetes API to talk to: not running in a pod, and neither --kubeconfig nor $KUBECONFIG names a file")
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return config, nil
}
