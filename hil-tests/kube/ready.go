package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/skerry/skerry/hil-tests/kube/pki"
)

const pollEvery = 100 * time.Millisecond

// waiter asks the API server, as the administrator, whether it can be used.
type waiter struct{ client kubernetes.Interface }

func newWaiter(kubeconfig string) (*waiter, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	cfg.Timeout = 10 * time.Second
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client from %s: %w", kubeconfig, err)
	}
	return &waiter{client}, nil
}

// apiServer waits for /readyz.
func (w *waiter) apiServer(ctx context.Context) error {
	return poll(ctx, "kube-apiserver's /readyz", func(ctx context.Context) error {
		return w.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// objects waits for what the controller manager makes and pods cannot be
// created without: the default service account and the configmap with the
// authority's certificate, which every pod mounts.
func (w *waiter) objects(ctx context.Context) error {
	err := poll(ctx, "the service account default/default", func(ctx context.Context) error {
		_, err := w.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for _, ns := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		err := poll(ctx, "the configmap "+ns+"/kube-root-ca.crt", func(ctx context.Context) error {
			_, err := w.client.CoreV1().ConfigMaps(ns).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func poll(ctx context.Context, what string, try func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

// writeKubeconfig writes a kubeconfig that stands alone: it can be copied.
func writeKubeconfig(path, url string, certs pki.Dir, who string) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["skerry"] = &clientcmdapi.Cluster{Server: url, CertificateAuthority: certs.Cert(pki.CA)}
	c.AuthInfos[who] = &clientcmdapi.AuthInfo{ClientCertificate: certs.Cert(who), ClientKey: certs.Key(who)}
	c.Contexts["skerry"] = &clientcmdapi.Context{Cluster: "skerry", AuthInfo: who}
	c.CurrentContext = "skerry"
	if err := clientcmdapi.FlattenConfig(c); err != nil {
		return fmt.Errorf("embed the certificates of %s: %w", who, err)
	}
	data, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := writeFile(path, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
