//go:build integration

package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/firmware/wire/canon"
	"github.com/skerry/skerry/hil-tests/fleet"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/rig/stack/stacktest"
)

// agents is the size of the honest fleet; victim is one of it.
const (
	agents = 40
	victim = "gw-00000"
)

// rig is a control plane, a relay process and an honest fleet, of which each agent has a Node, a pod and a device.
type rig struct {
	stack   *stack.Stack
	cluster *fleet.Cluster
	relay   *fleet.Relay
	fleet   *fleet.Fleet
	log     string // file
	work    fleet.Workload
	before  string // the victims' data
}

// limits of the relay under test: the ones that the attempts wait for are short.
var limits = map[string]any{"ackPatience": "3s", "connecting": 300}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin := stacktest.Bin()
	s := stacktest.Start(t, stack.Options{NoPods: true})
	var err error
	r := &rig{stack: s, work: fleet.Workload{Groups: 2, Bytes: 1024, Pods: true, Devices: true}}
	if r.cluster, err = fleet.Connect(t.Context(), s.Kube.REST(), 1000); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Dir, "fleet")
	r.log = filepath.Join(dir, "fleet-relay.log")
	kubeconfig, err := s.RelayKubeconfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.relay, err = fleet.NewRelay(fleet.RelayOptions{
		Binary: filepath.Join(bin, "skerry-relay"), Kubeconfig: kubeconfig, Dir: dir, Listen: s.RelayAt, Web: s.RelayWeb, Profile: true,
		Config: map[string]any{"log": map[string]any{"level": "info"}, "limits": limits},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.relay.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the relay's log:\n%s", r.relay.Log(60))
		}
		if err := r.relay.Stop(); err != nil {
			t.Error(err)
		}
	})
	r.populate(t)
	return r
}

// populate starts the honest fleet and gives it what attackers are after.
func (r *rig) populate(t *testing.T) {
	t.Helper()
	names := fleet.Names("gw", agents)
	ids, err := fleet.Issue(t.Context(), r.cluster.CA, names)
	if err != nil {
		t.Fatal(err)
	}
	r.fleet, err = fleet.New(fleet.Options{Addresses: []string{r.relay.Address()}, Roots: r.cluster.CA.Pool(), Identities: ids, Events: true, MaxBackoff: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r.fleet.Start()
	t.Cleanup(r.fleet.Stop)
	if err := r.cluster.AwaitNodes(t.Context(), agents, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.Create(t.Context(), r.work, names, nil); err != nil {
		t.Fatal(err)
	}
	r.secretPod(t)
	r.await(t, "given their objects", fleet.Holds(r.work.Objects()))
	r.await(t, "done reporting", fleet.Reported)
	r.quiet(t)
	r.before = r.victims(t)
}

// secretPod gives the victim a pod that mounts a secret.
func (r *rig) secretPod(t *testing.T) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secretName}, StringData: map[string]string{"password": crownJewel}}
	if _, err := r.cluster.Core.CoreV1().Secrets(fleet.Namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	no := false
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "with-secret"}, Spec: corev1.PodSpec{
		NodeName: victim, AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "main", Image: "registry.invalid/fleet:1"}},
		Volumes: []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secretName}}}},
	}}
	if _, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

const (
	secretName = "crown-jewels"
	crownJewel = "correct horse battery staple"
)

func (r *rig) await(t *testing.T, what string, check fleet.Check) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.fleet.Wait(ctx, what, check, nil); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) counters(t *testing.T) fleet.Counters {
	t.Helper()
	c, err := r.relay.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// quiet waits until nothing is left to write.
func (r *rig) quiet(t *testing.T) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for calm := 0; calm < 10; calm++ {
		if r.counters(t)["skerry_relay_write_queue_depth"] > 0 {
			calm = 0
		}
		if time.Now().After(end) {
			t.Fatal("the relay's writes do not come to an end")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// victims returns what the API holds of the victim and of everybody's pods and devices: all that no attacker may change, as text.
func (r *rig) victims(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	var out strings.Builder
	put := func(name string, v any, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s\n", name, b)
	}
	node, err := r.cluster.Core.CoreV1().Nodes().Get(ctx, victim, metav1.GetOptions{})
	put("node", []any{node.Labels, node.Annotations, node.Spec.Taints, node.Status.Capacity, node.Status.Addresses, len(node.Status.Conditions), len(node.Status.Images)}, err)
	secret, err := r.cluster.Core.CoreV1().Secrets(fleet.Namespace).Get(ctx, secretName, metav1.GetOptions{})
	put("secret", secret.Data, err)
	pods, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).List(ctx, metav1.ListOptions{})
	put("pods", err, err)
	for i := range pods.Items {
		p := &pods.Items[i]
		if strings.HasPrefix(p.Spec.NodeName, "gw-") {
			put("pod "+p.Name, []any{p.UID, p.DeletionTimestamp, p.Labels, p.Status}, nil)
		}
	}
	for _, gvr := range []string{"devices", "devicestatuses"} {
		res := stack.Devices
		res.Resource = gvr
		list, err := r.cluster.Dynamic.Resource(res).Namespace(fleet.Namespace).List(ctx, metav1.ListOptions{})
		put(gvr, err, err)
		for i := range list.Items {
			if d := &list.Items[i]; strings.HasPrefix(d.GetName(), "device-gw-") {
				put(gvr+" "+d.GetName(), []any{d.GetUID(), d.Object["spec"], d.Object["status"]}, nil)
			}
		}
	}
	return out.String()
}

// unchanged compares what belongs to others with what it was before the attacks.
func (r *rig) unchanged(t *testing.T) {
	t.Helper()
	now := r.victims(t)
	if now == r.before {
		return
	}
	was := strings.Split(r.before, "\n")
	for i, line := range strings.Split(now, "\n") {
		if i >= len(was) || line != was[i] {
			before := ""
			if i < len(was) {
				before = was[i]
			}
			t.Errorf("data of others has changed:\nbefore %s\nnow    %s", before, line)
			break
		}
	}
	r.before = now
}

// attacker makes somebody with a gateway's key.
func (r *rig) attacker(t *testing.T, node string) *Attacker {
	t.Helper()
	ids, err := fleet.Issue(t.Context(), r.cluster.CA, []string{node})
	if err != nil {
		t.Fatal(err)
	}
	return &Attacker{Address: r.relay.Address(), Roots: r.cluster.CA.Pool(), Key: &ids[0].Certificate}
}

// nobody makes somebody without a key, at an address of its own.
func (r *rig) nobody(from string) *Attacker {
	return &Attacker{Address: r.relay.Address(), Roots: r.cluster.CA.Pool(), From: from}
}

// open opens a session of the attacker's own node.
func open(t *testing.T, a *Attacker, node string) *Session {
	t.Helper()
	s, err := a.Open(t.Context(), Hello(node))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// send sends a frame of the link.
func send(t *testing.T, s *Session, f wire.Frame) {
	t.Helper()
	if err := s.Send(f); err != nil {
		t.Fatal(err)
	}
}

// document encodes a status document.
func document(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	b, err := canon.FromJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// report sends one batch of status documents and waits for its acknowledgement.
func report(t *testing.T, s *Session, seq uint64, items ...wire.ReportItem) {
	t.Helper()
	send(t, s, &wire.Report{Seq: seq, Items: items})
	seen := s.Drain(patience, true, func(f wire.Frame) bool { _, ok := f.(*wire.ReportAck); return ok })
	if seen.Close != nil || seen.Err != nil {
		t.Fatalf("the report is not acknowledged: %+v %v", seen.Close, seen.Err)
	}
}

// closed reads to the end and returns the relay's Close frame.
func closed(t *testing.T, s *Session) wire.Close {
	t.Helper()
	seen := s.Drain(patience, true, nil)
	if seen.Close == nil {
		t.Fatalf("the relay does not say why it ends the session: %v", seen.Err)
	}
	return *seen.Close
}

// podKey finds the key of a pod.
func (r *rig) podKey(t *testing.T, name string) wire.Key {
	t.Helper()
	p, err := r.cluster.Core.CoreV1().Pods(fleet.Namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return wire.NewKey(wire.KindPod, fleet.Namespace, name, string(p.UID))
}

func deviceKey(node string) wire.Key {
	return wire.NewKey(wire.KindDevice, fleet.Namespace, "device-"+node, "")
}

// logFrom returns the log from an offset on.
func (r *rig) logFrom(t *testing.T, offset int64) string {
	t.Helper()
	f, err := os.Open(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (r *rig) logSize(t *testing.T) int64 {
	t.Helper()
	st, err := os.Stat(r.log)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// told waits until one line of the relay's log names node and has all of the words: from then on the relay has done with it.
func (r *rig) told(t *testing.T, node string, words ...string) {
	t.Helper()
	words = append(words, "node="+node)
	for end := time.Now().Add(patience); !lineWith(r.logFrom(t, 0), words); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no line of the log has %q after %v", words, patience)
		}
	}
}

// lineWith says whether one line of a log has all of the words.
func lineWith(log string, words []string) bool {
	for line := range strings.Lines(log) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}
