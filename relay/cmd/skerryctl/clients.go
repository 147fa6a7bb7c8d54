package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry/skerry"
	"github.com/skerry/skerry/relay/enroll"
)

// clients are the ways to ask the API server.
type clients struct {
	core kubernetes.Interface
	ext  apiextensions.Interface
	dyn  dynamic.Interface
	slow rest.Interface // for answers that may take long; the request's context bounds it
}

// dialFunc makes clients for a kubeconfig file and context; "" takes the usual ones.
type dialFunc func(kubeconfig, context string) (*clients, error)

// requestTimeout bounds each request: an operator at a terminal wants an error rather than silence.
const requestTimeout = 15 * time.Second

func connect(kubeconfig, kubeContext string) (*clients, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: kubeContext}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("no cluster is configured: set KUBECONFIG, or give --kubeconfig FILE")
	}
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig cannot be used: %w", err)
	}
	cfg.Timeout = requestTimeout
	cfg.QPS, cfg.Burst = 200, 400 // client-go's 5 a second make the tokens of 2,000 gateways, or their status, a matter of minutes
	cfg.UserAgent = "skerryctl/" + skerry.Version
	c := new(clients)
	if c.core, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	patient := rest.CopyConfig(cfg)
	patient.Timeout = 0
	long, err := kubernetes.NewForConfig(patient)
	if err != nil {
		return nil, err
	}
	c.slow = long.CoreV1().RESTClient()
	if c.ext, err = apiextensions.NewForConfig(cfg); err != nil {
		return nil, err
	}
	if c.dyn, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// explain adds the remedy to errors whose text alone does not tell it.
func explain(err error) string {
	var (
		request *url.Error
		op      *net.OpError
		ca      x509.UnknownAuthorityError
	)
	status := apierrors.APIStatus(nil)
	switch {
	case errors.As(err, &ca):
		return fmt.Sprintf("%s: the kubeconfig is another cluster's, or out of date", err)
	case errors.As(err, &request) && (errors.As(err, &op) || request.Timeout()):
		u, parseErr := url.Parse(request.URL)
		if parseErr != nil {
			return err.Error()
		}
		return fmt.Sprintf("the Kubernetes API at %s://%s cannot be reached (%s): check that the cluster runs, the kubeconfig (--kubeconfig, KUBECONFIG), and the network", u.Scheme, u.Host, cause(request.Err))
	case errors.As(err, &status) && apierrors.IsForbidden(err):
		return fmt.Sprintf("%s: this needs a kubeconfig with the rights of a cluster administrator", err)
	case errors.As(err, &status) && apierrors.IsUnauthorized(err):
		return fmt.Sprintf("%s: the kubeconfig's credentials are not valid", err)
	case apierrors.IsNotFound(err) && status != nil && status.Status().Details != nil && status.Status().Details.Kind == "namespaces":
		return fmt.Sprintf("namespace %s does not exist: run `skerryctl init`", enroll.Namespace)
	}
	return err.Error()
}

func cause(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}
