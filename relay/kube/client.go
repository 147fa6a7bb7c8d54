package kube

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/metadata"
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
	// Leases speaks protobuf: a fleet's renewals are nearly all that an idle relay sends.
	Leases LeaseAPI
	// Statuses reads the metadata of DeviceStatus objects.
	Statuses metadata.Interface
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
	leases.ContentType = runtime.ContentTypeProtobuf
	leases.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	coordination, err := coordinationv1.NewForConfig(leases)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for leases: %w", err)
	}
	out.Leases = coordination.Leases(NodeLeaseNamespace)
	if out.Statuses, err = metadata.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make a Kubernetes client for metadata: %w", err)
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
