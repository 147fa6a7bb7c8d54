//go:build hil

package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gcrname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/skerry/skerry/hil-tests/rig/images"
	"github.com/skerry/skerry/hil-tests/rig/stack"
	"github.com/skerry/skerry/hil-tests/scenarios"
)

const namespace = "default"

// property is one property of a Device: a number.
type property struct {
	name     string
	write    string // desired value; "": none
	visitor  map[string]any
	writable bool
}

// device makes a model and a device.
func (w *world) device(t *testing.T, name, protocol string, config map[string]any, properties ...property) {
	t.Helper()
	var model, props []any
	for _, p := range properties {
		access := "ReadOnly"
		if p.writable {
			access = "ReadWrite"
		}
		model = append(model, map[string]any{"name": p.name, "type": "DOUBLE", "accessMode": access})
		prop := map[string]any{"name": p.name, "collectCycle": int64(1000), "reportToCloud": true, "visitors": map[string]any{"protocolName": protocol, "configData": p.visitor}}
		if p.write != "" {
			prop["desired"] = map[string]any{"value": p.write}
		}
		props = append(props, prop)
	}
	object := func(kind, name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec,
		}}
	}
	models, devices := w.cluster.Dynamic.Resource(stack.DeviceModels).Namespace(namespace), w.cluster.Dynamic.Resource(stack.Devices).Namespace(namespace)
	if _, err := models.Create(t.Context(), object("DeviceModel", name, map[string]any{"protocol": protocol, "properties": model}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := devices.Create(t.Context(), object("Device", name, map[string]any{
		"deviceModelRef": map[string]any{"name": name}, "nodeName": w.Node, "protocol": map[string]any{"protocolName": protocol, "configData": config}, "properties": props,
	}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// fresh waits until a property of a device is good and newer than a moment.
func (w *world) fresh(t *testing.T, device, property string, after time.Time) {
	t.Helper()
	eventually(t, patience, property+" of "+device+" is good and new", func(ctx context.Context) error {
		d, err := w.cluster.DeviceState(ctx, namespace, device)
		if err != nil {
			return err
		}
		if v := d.Value(property); v.Quality != "good" || !v.At.After(after) {
			return fmt.Errorf("%+v of a device that is %q", v, d.State)
		}
		return nil
	})
}

// verified waits until a written value has been read back.
func (w *world) verified(t *testing.T, device, property, value string) {
	t.Helper()
	eventually(t, patience, property+" of "+device+" is written", func(ctx context.Context) error {
		d, err := w.cluster.DeviceState(ctx, namespace, device)
		if err != nil {
			return err
		}
		if v := d.Value(property); v.Outcome != "verified" || v.Value != value {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
}

// modbusLine: a Modbus RTU device at the gateway's serial port is read and written.
func modbusLine(t *testing.T, w *world) {
	w.device(t, "fan", "modbus", map[string]any{"serialPort": w.port, "baudRate": int64(19200), "slaveID": int64(7), "timeout": int64(1000)},
		property{name: "rpm", visitor: map[string]any{"register": "InputRegister", "offset": int64(0), "limit": int64(1)}},
		property{name: "target", write: "870", writable: true, visitor: map[string]any{"register": "HoldingRegister", "offset": int64(0), "limit": int64(1)}})
	w.fresh(t, "fan", "rpm", time.Time{})
	w.verified(t, "fan", "target", "870")
}

// opcuaPress: an OPC UA server in the gateway's network is subscribed to and written.
func opcuaPress(t *testing.T, w *world) {
	w.device(t, "press", "opcua", map[string]any{"url": w.press},
		property{name: "pressure", visitor: map[string]any{"nodeID": "ns=1;s=pressure"}},
		property{name: "target", write: "105", writable: true, visitor: map[string]any{"nodeID": "ns=1;s=target"}})
	w.fresh(t, "press", "pressure", time.Time{})
	w.verified(t, "press", "target", "105")
}

// The images of the pod. Pods' own infrastructure is an image like any other.
const (
	pauseImage = "registry.k8s.io/pause:3.6"
	podImage   = "registry.example.org/hil/sample:1"
)

// stickAndPod: a technician brings images on a USB stick; a pod runs from them.
func stickAndPod(t *testing.T, w *world) {
	tar := filepath.Join(w.dir, "images.tar")
	w.saveImages(t, tar)
	stick := filepath.Join(w.dir, "stick.img")
	if err := scenarios.Stick(t.Context(), stick, 96, map[string]string{"images.tar": tar}); err != nil {
		t.Fatal(err)
	}
	if err := w.target.InsertStick(t.Context(), stick); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the gateway sees the stick", func(ctx context.Context) error {
		_, err := w.exec(ctx, "test -b /dev/sda1")
		return err
	})
	w.run(t, "mkdir -p /run/stick && mount -o ro /dev/sda1 /run/stick")
	eventually(t, patience, "images are imported", func(ctx context.Context) error {
		_, err := w.exec(ctx, "skerryctl image import /run/stick/images.tar")
		return err
	})
	w.run(t, "umount /run/stick")
	if err := w.target.RemoveStick(t.Context()); err != nil {
		t.Fatal(err)
	}
	no, grace := false, int64(1)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "hil", Namespace: namespace}, Spec: corev1.PodSpec{
		NodeName: w.Node, AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "main", Image: podImage, ImagePullPolicy: corev1.PullNever, Args: []string{"sleep"}}},
	}}
	made := time.Now()
	if _, err := w.cluster.Core.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the pod is Running", w.podRuns)
	w.times["pod_running_s"] = time.Since(made)
}

// coldStart: the power of a gateway with a pod goes off and on. The pod runs again, from what is on the gateway's disk.
func coldStart(t *testing.T, w *world) {
	before, err := w.container(t.Context())
	if err != nil {
		t.Fatalf("the pod that stick-and-pod makes does not run, so nothing can be seen of a cold start: %v", err)
	}
	if err := w.target.Off(t.Context()); err != nil {
		t.Fatal(err)
	}
	on := time.Now()
	if err := w.target.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootPatience, "the pod runs again", func(ctx context.Context) error {
		now, err := w.container(ctx)
		if err == nil && now == before {
			err = fmt.Errorf("Kubernetes knows of no container since %s", now)
		}
		return err
	})
	w.times["boot_to_pod_s"] = time.Since(on)
	eventually(t, patience, "the node is Ready", w.ready)
}

// container returns the ID of the pod's container while it runs. No container outlives a start of the machine.
func (w *world) container(ctx context.Context) (string, error) {
	p, err := w.cluster.Core.CoreV1().Pods(namespace).Get(ctx, "hil", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil && c.ContainerID != "" {
			return c.ContainerID, nil
		}
	}
	return "", fmt.Errorf("%s: %s %+v", p.Status.Phase, p.Status.Message, p.Status.ContainerStatuses)
}

func (w *world) podRuns(ctx context.Context) error {
	p, err := w.cluster.Core.CoreV1().Pods(namespace).Get(ctx, "hil", metav1.GetOptions{})
	if err == nil && p.Status.Phase != corev1.PodRunning {
		err = fmt.Errorf("%s: %s %+v", p.Status.Phase, p.Status.Message, p.Status.ContainerStatuses)
	}
	return err
}

// saveImages writes the pod's images for the gateway's architecture, as `docker save` does.
func (w *world) saveImages(t *testing.T, path string) {
	t.Helper()
	arch := strings.TrimSpace(w.run(t, "uname -m"))
	arch = map[string]string{"armv7l": "arm", "aarch64": "arm64", "x86_64": "amd64"}[arch]
	saved := map[gcrname.Reference]v1.Image{}
	for ref, pkg := range map[string]string{pauseImage: "./hil-tests/images/pause", podImage: "./hil-tests/images/sample"} {
		binary := filepath.Join(w.dir, filepath.Base(pkg))
		if err := images.Compile(t.Context(), w.Module, pkg, arch, binary); err != nil {
			t.Fatal(err)
		}
		image, err := images.FromBinary(binary, arch)
		if err != nil {
			t.Fatal(err)
		}
		tag, err := gcrname.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		saved[tag] = image
	}
	if err := tarball.MultiRefWriteToFile(path, saved); err != nil {
		t.Fatal(err)
	}
}

// fullData: somebody fills the data partition. Devices are read as before, and when there is room again nothing is left of it.
func fullData(t *testing.T, w *world) {
	const file = "/var/lib/skerry/hil-filler"
	w.run(t, "avail=$(df -k --output=avail /var/lib/skerry | tail -n 1); fallocate -l ${avail}k "+file+" || dd if=/dev/zero of="+file+" bs=1M 2>/dev/null; df -k /var/lib/skerry | tail -n 1")
	w.device(t, "late", "modbus", map[string]any{"serialPort": w.port, "baudRate": int64(19200), "slaveID": int64(7), "timeout": int64(1000)},
		property{name: "rpm", visitor: map[string]any{"register": "InputRegister", "offset": int64(0), "limit": int64(1)}})
	eventually(t, patience, "the agent is connected although its disk is full", w.connected)
	w.run(t, "rm "+file)
	w.fresh(t, "late", "rpm", time.Time{})
	eventually(t, patience, "the node is Ready", w.ready)
}

// clockWithoutBattery: the gateway starts in 1970, of which systemd makes the time of its own build. With the time set it finds the relay by itself.
func clockWithoutBattery(t *testing.T, w *world) {
	rig := w.target.Rig()
	rig.QEMU.RTC = "1970-01-01T00:00:00"
	defer func() { rig.QEMU.RTC = "" }()
	if err := errors.Join(w.target.Cut(t.Context()), w.target.On(t.Context())); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootPatience, "commands run on the gateway", w.answers)
	t.Logf("the gateway believes that it is %s", w.run(t, "date -u"))
	// What the first answer of a time server does.
	w.run(t, fmt.Sprintf("date -u -s @%d", time.Now().Unix()))
	eventually(t, patience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)
}
