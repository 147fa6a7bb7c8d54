//go:build integration

package metrics_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/skerry/skerry/hil-tests/rig/balancer"
	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

const (
	node     = "gw-1"
	patience = 90 * time.Second // metrics-server looks every 15 s, and needs two looks for a rate
)

// world is the system. The API server and metrics-server know the relays by one address, the balancer's.
type world struct {
	*stack.Stack
	cluster  *stack.Cluster
	relays   []*stack.Replica
	balancer *balancer.Balancer
	server   *process.Process // metrics-server
	args     []string         // its own
}

var w *world // made by TestMain, before any test

func TestMain(m *testing.M) {
	os.Exit(stacktest.Main(m, stack.Options{Node: node, Runtime2: os.Getenv("SKERRY_CONTAINERD2")}, prepare))
}

func prepare(ctx context.Context, s *stack.Stack) (err error) {
	w = &world{Stack: s}
	if w.cluster, err = w.Cluster(); err != nil {
		return err
	}
	box, err := images.Busybox(ctx, runtime.GOARCH, images.ImageConfig{})
	if err != nil {
		return err
	}
	if err := w.Images.Push(ctx, "busybox:1", box); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{w.startRelays, w.startAgent, w.deployMetricsServer} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startRelays(ctx context.Context) (err error) {
	if w.balancer, err = balancer.New(); err != nil {
		return err
	}
	w.OnStop(w.balancer.Close)
	cert, key, err := w.certificate(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"relay-a", "relay-b"} {
		r, err := w.KubeletReplica(ctx, name, w.balancer, map[string]any{"certFile": cert, "keyFile": key})
		if err != nil {
			return err
		}
		w.relays = append(w.relays, r)
		if err := r.Start(ctx); err != nil {
			return err
		}
	}
	w.balancer.Through(w.relays[0].KubeletAt)
	return nil
}

// certificate has the cluster sign a serving certificate for the relays' address, as docs/kubelet.md says.
func (w *world) certificate(ctx context.Context) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:skerry-relay"}, IPAddresses: []net.IP{net.ParseIP(w.balancer.Host())},
	}, key)
	if err != nil {
		return "", "", err
	}
	api := w.cluster.Core.CertificatesV1().CertificateSigningRequests()
	csr, err := api.Create(ctx, &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "skerry-relay-kubelet"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			SignerName: certificatesv1.KubeletServingSignerName, Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}),
			Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", "", err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "Test"})
	if _, err := api.UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return "", "", err
	}
	for end := time.Now().Add(patience); len(csr.Status.Certificate) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			return "", "", errors.New("the certificate was not signed")
		}
		if csr, err = api.Get(ctx, csr.Name, metav1.GetOptions{}); err != nil {
			return "", "", err
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(w.Dir, "kubelet.crt"), filepath.Join(w.Dir, "kubelet.key")
	return certFile, keyFile, errors.Join(os.WriteFile(certFile, csr.Status.Certificate, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// startAgent joins through the first relay; the agent knows both.
func (w *world) startAgent(ctx context.Context) error {
	w.RelayAt = w.relays[0].At
	if err := w.Join(ctx); err != nil {
		return err
	}
	err := w.WriteAgentConfig(func(doc map[string]any) {
		doc["relay"] = map[string]any{"addresses": []string{w.relays[0].At, w.relays[1].At}}
	})
	if err != nil {
		return err
	}
	return w.StartAgent(ctx)
}

// deployMetricsServer does what `kubectl apply` of metrics-server's manifests does, but for the pod, which is a process here.
func (w *world) deployMetricsServer(ctx context.Context) error {
	dir := filepath.Join(stacktest.Bin(), "metrics-server")
	text := map[string]string{}
	for _, name := range []string{"rbac", "apiservice", "service", "deployment"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
		if err != nil {
			return fmt.Errorf("%w: run make metrics-server", err)
		}
		text[name] = string(b)
	}
	at, err := stack.FreeAddressAt(w.balancer.Host())
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return err
	}
	// The service's endpoint is the process.
	endpoint := fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: metrics-server, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}\n"+
		"addressType: IPv4\nendpoints: [{addresses: [%q], conditions: {ready: true}}]\nports: [{name: https, protocol: TCP, port: %s}]\n", host, port)
	for _, doc := range []string{text["rbac"], text["apiservice"], text["service"], endpoint} {
		if _, err := w.Kube.Apply(ctx, doc); err != nil {
			return err
		}
	}
	args, err := deploymentArgs(text["deployment"])
	if err != nil {
		return err
	}
	account := filepath.Join(w.Dir, "metrics-server.kubeconfig")
	if err := stack.AccountKubeconfig(ctx, w.Kube.REST(), "kube-system", "metrics-server", account); err != nil {
		return err
	}
	// Of these a pod finds the first three by itself.
	w.args = append(args, "--kubeconfig="+account, "--authentication-kubeconfig="+account, "--authorization-kubeconfig="+account,
		"--cert-dir="+filepath.Join(w.Dir, "metrics-server"), "--bind-address="+host, "--secure-port="+port, "--v=1")
	w.OnStop(func() error {
		if w.server == nil {
			return nil
		}
		return w.server.Stop()
	})
	return w.startMetricsServer()
}

// deploymentArgs are the arguments of the container in metrics-server's own manifest.
func deploymentArgs(manifest string) ([]string, error) {
	var d struct {
		Spec struct {
			Template struct{ Spec corev1.PodSpec }
		}
	}
	if err := yaml.Unmarshal([]byte(strings.TrimPrefix(manifest, "---\n")), &d); err != nil {
		return nil, fmt.Errorf("metrics-server's manifest: %w", err)
	}
	if len(d.Spec.Template.Spec.Containers) != 1 || len(d.Spec.Template.Spec.Containers[0].Args) == 0 {
		return nil, errors.New("metrics-server's manifest has no container with arguments")
	}
	return d.Spec.Template.Spec.Containers[0].Args, nil
}

func (w *world) startMetricsServer(more ...string) (err error) {
	w.server, err = process.Start(process.Spec{
		Name: "metrics-server", Path: filepath.Join(stacktest.Bin(), "metrics-server", "metrics-server"), Args: append(append([]string(nil), w.args...), more...),
		Log: filepath.Join(w.Dir, "logs", "metrics-server.log"),
	})
	return err
}

// kubectl returns what kubectl printed, and whether it ended well.
func kubectl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return w.Kube.Kubectl(t.Context(), args...)
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(t, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply makes objects, and removes them when the test ends.
func apply(t *testing.T, doc string) {
	t.Helper()
	doc = strings.NewReplacer("$NODE", node, "$BUSYBOX", w.Images.Ref("busybox:1")).Replace(doc)
	if _, err := w.Kube.Apply(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "doc.yaml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.Kube.Kubectl(context.Background(), "delete", "-f", file, "--now", "--wait=false", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
}

func running(t *testing.T, pods ...string) {
	t.Helper()
	for _, name := range pods {
		stacktest.Eventually(t, patience, name+" runs", func() (bool, string) {
			out, err := kubectl(t, "get", "pod", name, "-o", "jsonpath={.status.phase}")
			return err == nil && out == "Running", out
		})
	}
}
