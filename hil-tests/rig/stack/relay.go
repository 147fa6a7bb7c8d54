package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/skerry/skerry/hil-tests/rig/balancer"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

// tokenLife is longer than any run.
const tokenLife = 12 * time.Hour

// AccountKubeconfig writes a kubeconfig with a token of the ServiceAccount NAMESPACE/NAME to path, so that a process outside the
// cluster has the rights that it would have in a pod, and no more. admin must be allowed to request tokens.
func AccountKubeconfig(ctx context.Context, admin *rest.Config, namespace, name, path string) error {
	core, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return fmt.Errorf("client of the control plane: %w", err)
	}
	seconds := int64(tokenLife / time.Second)
	answer, err := core.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	ca := admin.CAData
	if len(ca) == 0 {
		if ca, err = os.ReadFile(admin.CAFile); err != nil {
			return fmt.Errorf("CA of the control plane: %w", err)
		}
	}
	doc := clientcmdapi.NewConfig()
	doc.Clusters[name] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: ca}
	doc.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: answer.Status.Token}
	doc.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	doc.CurrentContext = name
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("folder of %s: %w", path, err)
	}
	if err := clientcmd.WriteToFile(*doc, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// RelayKubeconfig returns the path of a kubeconfig with the rights of the relay's ServiceAccount, which `skerryctl init` has made.
// All relays of the rig run with it, not as an administrator: what they lack fails the suites.
func (s *Stack) RelayKubeconfig(ctx context.Context) (string, error) {
	path := s.path("relay.kubeconfig")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := AccountKubeconfig(ctx, s.Kube.REST(), "skerry-system", "skerry-relay", path); err != nil {
		return "", err
	}
	return path, nil
}

// Replica is one of several relays on one control plane. Its methods are for one goroutine at a time.
type Replica struct {
	Name      string
	At        string // HOST:PORT of the link; the replica's own address, too
	Web       string // HOST:PORT of the metrics
	KubeletAt string // HOST:PORT of the kubelet port; "" for a Replica that has none

	stack  *Stack
	config string
	proc   *process.Process // nil while it does not run
}

// Replica prepares a further relay with ports of its own; config are further keys of its configuration. Stop ends it if nobody
// else did.
func (s *Stack) Replica(ctx context.Context, name string, config map[string]any) (*Replica, error) {
	r := &Replica{Name: name, stack: s, config: s.path("relays", name+".yaml")}
	var err error
	for _, at := range []*string{&r.At, &r.Web} {
		if *at, err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	kubeconfig, err := s.RelayKubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	doc := map[string]any{
		"name": name, "kubeconfig": kubeconfig, "listen": r.At, "address": r.At, "metricsAddress": r.Web, "advertise": []string{"127.0.0.1"},
	}
	maps.Copy(doc, config)
	text, err := json.MarshalIndent(doc, "", "  ") // JSON is YAML
	if err != nil {
		return nil, fmt.Errorf("configuration of relay %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(r.config), 0o755); err != nil {
		return nil, fmt.Errorf("folder of relay %s: %w", name, err)
	}
	if err := os.WriteFile(r.config, text, 0o600); err != nil {
		return nil, fmt.Errorf("configuration of relay %s: %w", name, err)
	}
	s.replicas = append(s.replicas, r)
	return r, nil
}

// KubeletReplica prepares a relay as Replica does, with a kubelet port that the API server reaches through b; kubelet are further keys
// of that part of its configuration. It logs what it does in detail.
func (s *Stack) KubeletReplica(ctx context.Context, name string, b *balancer.Balancer, kubelet map[string]any) (*Replica, error) {
	at, err := FreeAddressAt(b.Host()) // not loopback, since the nodes' own ports are at the same address
	if err != nil {
		return nil, err
	}
	part := map[string]any{"listen": at, "address": b.Host(), "port": b.Port(), "peerAddress": at}
	maps.Copy(part, kubelet)
	r, err := s.Replica(ctx, name, map[string]any{"kubelet": part, "log": map[string]any{"level": "debug"}})
	if err != nil {
		return nil, err
	}
	r.KubeletAt = at
	return r, nil
}

// Start runs the relay and waits until it is ready.
func (r *Replica) Start(ctx context.Context) error {
	p, err := process.Start(process.Spec{
		Name: r.Name, Path: r.stack.bin("skerry-relay"), Args: []string{"--config", r.config}, Log: r.stack.log(r.Name),
	})
	if err != nil {
		return fmt.Errorf("start relay %s: %w", r.Name, err)
	}
	r.proc = p
	return process.WaitReady(ctx, p, "relay "+r.Name+" is ready", r.stack.progress, httpOK("http://"+r.Web+"/readyz"))
}

// Running says whether the process was started and not ended by one of the methods.
func (r *Replica) Running() bool { return r.proc != nil }

// Term sends SIGTERM, as Kubernetes does, and returns at once. Call Wait.
func (r *Replica) Term() error { return r.proc.Signal(syscall.SIGTERM) }

// Wait waits for the process to end by itself. Any status but 0 is an error.
func (r *Replica) Wait(ctx context.Context) error {
	if err := r.proc.Wait(ctx); err != nil {
		return fmt.Errorf("relay %s: %w\n%s", r.Name, err, r.proc.LogTail(30))
	}
	r.proc = nil
	return nil
}

// Kill ends the relay with SIGKILL. It does nothing while it does not run.
func (r *Replica) Kill() error {
	p := r.proc
	r.proc = nil
	if p == nil {
		return nil
	}
	return p.Kill()
}

// Signal sends sig: SIGSTOP makes a relay hang with its connections open.
func (r *Replica) Signal(sig os.Signal) error { return r.proc.Signal(sig) }

// Metrics returns the page /metrics.
func (r *Replica) Metrics(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Web+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("metrics of relay %s: %w", r.Name, err)
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

func (s *Stack) killReplicas() error {
	var errs []error
	for _, r := range s.replicas {
		errs = append(errs, r.Kill())
	}
	s.replicas = nil
	return errors.Join(errs...)
}
