package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry/skerry/firmware/cri"
	"github.com/skerry/skerry/hil-tests/rig/modbuspeer"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/simulator"
)

//go:embed manifests/*.yaml
var manifests embed.FS

const namespace, deviceName, podLabel = "default", "pump-1", "app=web"

// demo is the scenario's state: the running system and what earlier steps saw.
type demo struct {
	opts    stack.Options
	out     io.Writer
	stack   *stack.Stack
	cluster *stack.Cluster
	modbus  *modbuspeer.Peer
	press   *simulator.Simulator

	before       []container // containers at the edge before the agent was killed
	held         int         // objects that the agent held when the relay went
	wantSetpoint string
}

type sayFunc = func(format string, args ...any)

func (d *demo) steps() []step {
	return []step{
		{"Kubernetes control plane, containerd, image registry", d.startBase},
		{"skerry-relay is ready, its CRDs are installed", d.startRelay},
		{"a Modbus TCP device (pymodbus) is on", d.startModbus},
		{"an OPC UA server (skerry-sim) is on", d.startPress},
		{"skerryd joined with a node-bound token and runs", d.startAgent},
		{"node Ready", d.nodeReady},
		{"pod Running at the edge", d.podRunning},
		{"kubectl logs and kubectl exec reach it through the relay", d.logsAndExec},
		{"device values arrive in Kubernetes", d.valuesArrive},
		{"a desired value reaches the register, verified by read-back", d.setDesired},
		{"OPC UA values are subscribed, one is calculated from them", d.pressArrives},
		{"an alarm is raised and cleared, seen with kubectl", d.pressAlarm},
		{"relay stopped: the pod and the polling go on", d.relayStopped},
		{"agent killed with SIGKILL: it adopts the same containers", d.agentKilled},
		{"agent restarted with the relay down: pod and polling from its store", d.offlineRestart},
		{"relay back: both sides catch up, nothing unchanged is sent again", d.relayBack},
	}
}

func (d *demo) close(ctx context.Context) error {
	var errs []error
	if d.modbus != nil {
		errs = append(errs, d.modbus.Stop())
	}
	if d.press != nil {
		errs = append(errs, d.press.Close())
	}
	if d.stack != nil {
		errs = append(errs, d.stack.Stop(ctx))
		if d.opts.Keep {
			fmt.Fprintln(d.out, "logs and state are in", d.stack.Dir)
		}
	}
	return errors.Join(errs...)
}

// explain prints what a person would ask for first after a step failed.
func (d *demo) explain() {
	if d.stack == nil {
		return
	}
	for _, p := range []interface {
		Name() string
		LogTail(int) string
	}{d.stack.Relay, d.stack.Agent} {
		defer func() { _ = recover() }() // a process that is not running has no log to show
		fmt.Fprintf(d.out, "\n--- last lines of %s\n%s\n", p.Name(), p.LogTail(25))
	}
}

func (d *demo) startBase(ctx context.Context, say sayFunc) (string, error) {
	d.opts.Say = say
	s, err := stack.Start(ctx, d.opts)
	if err != nil {
		return "", err
	}
	d.stack = s
	if d.cluster, err = s.Cluster(); err != nil {
		return "", err
	}
	v, err := s.Kube.Kubectl(ctx, "version")
	if err != nil {
		return "", err
	}
	return lastWord(v), nil
}

func (d *demo) startRelay(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.stack.StartRelay(ctx); err != nil {
		return "", err
	}
	crds, err := d.stack.Kube.Kubectl(ctx, "get", "crd", "-o", "name")
	if err != nil {
		return "", err
	}
	for _, want := range []string{"devicemodels.", "devices.", "devicestatuses."} {
		if !strings.Contains(crds, "/"+want+"devices.kubeedge.io") {
			return "", fmt.Errorf("no CRD %sdevices.kubeedge.io among: %s", want, crds)
		}
	}
	return "listens on " + d.stack.RelayAt, nil
}

func (d *demo) startModbus(ctx context.Context, _ sayFunc) (string, error) {
	p, err := modbuspeer.Start(ctx, modbuspeer.Options{})
	if err != nil {
		return "", err
	}
	d.modbus = p
	return "listens on " + p.Addr(), nil
}

func (d *demo) startAgent(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.stack.Join(ctx); err != nil {
		return "", err
	}
	if err := d.stack.StartAgent(ctx); err != nil {
		return "", err
	}
	return "as node " + d.stack.Node, nil
}

func (d *demo) nodeReady(ctx context.Context, _ sayFunc) (string, error) {
	err := poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		status, message, err := d.cluster.NodeReady(ctx, d.stack.Node)
		return status == corev1.ConditionTrue, message, err
	})
	if err != nil {
		return "", err
	}
	line, err := d.stack.Kube.Kubectl(ctx, "get", "node", d.stack.Node, "--no-headers")
	return strings.TrimSpace(line), err
}

func (d *demo) manifest(name string) (string, error) {
	text, err := manifests.ReadFile("manifests/" + name)
	if err != nil {
		return "", err
	}
	host, port, _ := strings.Cut(d.modbus.Addr(), ":")
	return os.Expand(string(text), func(k string) string {
		return map[string]string{"NODE": d.stack.Node, "IMAGE": d.stack.Images.Ref("sample:1"), "MODBUS_IP": host, "MODBUS_PORT": port, "OPCUA": d.press.Addrs()[0]}[k]
	}), nil
}

func (d *demo) apply(ctx context.Context, name string) error {
	text, err := d.manifest(name)
	if err != nil {
		return err
	}
	_, err = d.stack.Kube.Apply(ctx, text)
	return err
}

func (d *demo) podRunning(ctx context.Context, say sayFunc) (string, error) {
	if err := d.apply(ctx, "app.yaml"); err != nil {
		return "", err
	}
	var pod corev1.Pod
	err := poll(ctx, 50*time.Millisecond, func() (bool, string, error) {
		list, err := d.cluster.Core.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: podLabel})
		if err != nil || len(list.Items) == 0 {
			return false, "no pod yet", err
		}
		pod = list.Items[0]
		say("%s", pod.Status.Phase)
		return podReady(&pod), describe(&pod), nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s", pod.Name, pod.Status.PodIP), nil
}

func (d *demo) logsAndExec(ctx context.Context, _ sayFunc) (string, error) {
	const web = "deployment/web"
	logs, err := d.stack.Kube.Kubectl(ctx, "logs", "-n", namespace, web)
	if err != nil {
		return "", err
	}
	if !strings.Contains(logs, "sample: line 0 ") {
		return "", fmt.Errorf("kubectl logs shows %q, not the container's first line", clip(logs, 80))
	}
	text, err := d.stack.Kube.Kubectl(ctx, "exec", "-n", namespace, web, "--", "/sample", "cat", "/config/text")
	if err != nil {
		return "", err
	}
	if want := "hello from the cloud"; strings.TrimSpace(text) != want {
		return "", fmt.Errorf("the configMap in the container says %q, want %q", text, want)
	}
	return fmt.Sprintf("its configMap says %q", text), nil
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return p.Status.Phase == corev1.PodRunning && c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func describe(p *corev1.Pod) string {
	text := fmt.Sprintf("%s: %s %s %s", p.Name, p.Status.Phase, p.Status.Reason, p.Status.Message)
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			text += fmt.Sprintf(" %s: %s: %s", c.Name, w.Reason, w.Message)
		}
	}
	return text
}

func (d *demo) device(ctx context.Context) (stack.DeviceState, error) {
	return d.cluster.DeviceState(ctx, namespace, deviceName)
}

func (d *demo) valuesArrive(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.apply(ctx, "device.yaml"); err != nil {
		return "", err
	}
	var first, last stack.DeviceState
	err := poll(ctx, 100*time.Millisecond, func() (bool, string, error) {
		now, err := d.device(ctx)
		if err != nil || len(now.Values) < 4 {
			return false, "no values yet: " + d.whyNot(ctx, deviceName), err
		}
		for _, v := range now.Values {
			if v.Quality != "good" {
				return false, fmt.Sprintf("%s is %s: %s", v.Property, v.Quality, v.Reason), nil
			}
		}
		if first.Name == "" {
			first = now
		}
		last = now
		changed := first.Value("revolutions").Value != now.Value("revolutions").Value && first.Value("temperature").Value != now.Value("temperature").Value
		return changed, "values do not change", nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("revolutions %s → %s, temperature %s → %s", first.Value("revolutions").Value, last.Value("revolutions").Value,
		first.Value("temperature").Value, last.Value("temperature").Value), nil
}

func (d *demo) whyNot(ctx context.Context, device string) string {
	conds, err := d.cluster.DeviceConditions(ctx, namespace, device)
	if err != nil {
		return err.Error()
	}
	var text []string
	for _, c := range conds {
		text = append(text, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	slices.Sort(text)
	return strings.Join(text, "; ")
}

func (d *demo) wantValue(ctx context.Context, value string) error {
	patch := fmt.Sprintf(`[{"op":"test","path":"/spec/properties/3/name","value":"setpoint"},{"op":"add","path":"/spec/properties/3/desired","value":{"value":%q}}]`, value)
	_, err := d.stack.Kube.Kubectl(ctx, "patch", "device", deviceName, "--type=json", "-p", patch)
	d.wantSetpoint = value
	return err
}

func (d *demo) desiredVerified(ctx context.Context) error {
	err := poll(ctx, 50*time.Millisecond, func() (bool, string, error) {
		now, err := d.device(ctx)
		v := now.Value("setpoint")
		return v.Desired == d.wantSetpoint && v.Outcome == "verified" && v.Value == d.wantSetpoint,
			fmt.Sprintf("desired %q (%s), reported %q", v.Desired, v.Outcome, v.Value), err
	})
	if err != nil {
		return err
	}
	// The device itself is asked too, past everything that Skerry says.
	regs, err := d.modbus.Holding(ctx, 1, 0, 1)
	if err != nil {
		return err
	}
	if got := fmt.Sprint(regs[0]); got != d.wantSetpoint {
		return fmt.Errorf("%s is verified according to Kubernetes, but the device's register holds %s", d.wantSetpoint, got)
	}
	return nil
}

func (d *demo) setDesired(ctx context.Context, _ sayFunc) (string, error) {
	if err := d.wantValue(ctx, "42"); err != nil {
		return "", err
	}
	if err := d.desiredVerified(ctx); err != nil {
		return "", err
	}
	return "setpoint 42 is in holding register 0", nil
}

// container is what must not change when the agent comes and goes.
type container struct {
	id      string
	name    string
	attempt uint32
	started int64
}

func (d *demo) containers(ctx context.Context) ([]container, error) {
	list, err := d.stack.Runtime.Client().ListContainers(ctx, &cri.ContainerFilter{State: new(cri.ContainerRunning)})
	if err != nil {
		return nil, err
	}
	var out []container
	for _, c := range list {
		out = append(out, container{id: c.ID, name: c.Metadata.Name, attempt: c.Metadata.Attempt, started: c.CreatedAt})
	}
	slices.SortFunc(out, func(a, b container) int { return strings.Compare(a.id, b.id) })
	return out, nil
}

func lastWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1]
}
