//go:build integration

package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

const model = `
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: all}
spec:
  protocol: mqtt
  properties:
    - {name: int, type: INT, accessMode: ReadWrite, minimum: "0", maximum: "100"}
    - {name: float, type: FLOAT, accessMode: ReadWrite}
    - {name: double, type: DOUBLE, accessMode: ReadWrite}
    - {name: string, type: STRING, accessMode: ReadWrite}
    - {name: boolean, type: BOOLEAN, accessMode: ReadWrite}
    - {name: bytes, type: BYTES, accessMode: ReadWrite}
    - {name: fixed, type: INT, accessMode: ReadOnly}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: pump}
spec: &spec
  deviceModelRef: {name: all}
  nodeName: gw-1
  protocol: {protocolName: mqtt}
  properties: [{name: int}, {name: float}, {name: double}, {name: string}, {name: boolean}, {name: bytes}, {name: fixed}]
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {name: hostile}
spec:
  deviceModelRef: {name: all}
  nodeName: gw-1
  protocol: {protocolName: mqtt}
  properties: [{name: int}]
`

// gateway is a skerryd whose store already holds devices, as after a restart without a network.
type gateway struct {
	t                    *testing.T
	skerryd, dir, config string
	port                 int
	metrics              string
	proc                 *process.Process
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	for _, peer := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(peer); err != nil {
			t.Fatalf("%v: run scripts/deps.sh mqtt", err)
		}
	}
	bin := os.Getenv("SKERRY_BIN")
	if bin == "" {
		bin = "../../build/bin"
	}
	g := &gateway{t: t, skerryd: must[string](t)(filepath.Abs(filepath.Join(bin, "skerryd")))}
	if _, err := os.Stat(g.skerryd); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	g.dir = must[string](t)(os.MkdirTemp("", "mq")) // short: paths of sockets are
	t.Cleanup(func() { _ = os.RemoveAll(g.dir) })
	g.config, g.port, g.metrics = filepath.Join(g.dir, "skerryd.yaml"), freePort(t), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	passwords := ""
	for _, user := range []string{"pump", "hostile", "app"} {
		cmd := exec.CommandContext(t.Context(), g.skerryd, "mqtt-password", "-user", user)
		cmd.Stdin = strings.NewReader(user + " secret\n")
		passwords += string(must[[]byte](t)(cmd.Output()))
	}
	if err := os.WriteFile(filepath.Join(g.dir, "passwords"), []byte(passwords), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`node: {name: gw-1}
relay: {addresses: ["127.0.0.1:9"]}
dataDir: %[1]s/data
pods: {enabled: false}
metrics: {address: "%[3]s"}
socket: %[1]s/skerryd.sock
mqtt:
  enabled: true
  listeners: {tcp: "0.0.0.0:%[2]d", socket: %[1]s/mqtt.sock}
  passwordFile: %[1]s/passwords
  limits: {messagesPerSecond: 1000, sessionsPerIdentity: 20}
  identities:
    - {name: pump, device: default/pump}
    - {name: hostile, device: default/hostile}
    - {name: app, publish: ["plant/#", "$hw/#"], subscribe: ["plant/#", "$hw/events/#"]}
`, g.dir, g.port, g.metrics)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.fill()
	g.start()
	return g
}

func freePort(t *testing.T) int {
	t.Helper()
	l := must[net.Listener](t)(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// fill puts the manifests into the store.
func (g *gateway) fill() {
	t := g.t
	t.Helper()
	data := filepath.Join(g.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	sealer := must[*store.FileSealer](t)(store.OpenKeyFile(filepath.Join(data, "seal.key")))
	s := must[*store.Store](t)(store.Open(t.Context(), store.Options{Dir: filepath.Join(data, "store"), Sealer: sealer, Log: slog.New(slog.DiscardHandler)}))
	d := must[*store.Desired](t)(store.NewDesired(s))
	commit := wire.Commit{ID: 1, Rules: 2, Revisions: map[wire.Kind]uint64{wire.KindDevice: 1, wire.KindDeviceModel: 1}}
	for _, text := range strings.Split(model, "\n---\n") {
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		kind := wire.KindDevice
		if doc["kind"] == "DeviceModel" {
			kind = wire.KindDeviceModel
		}
		meta := doc["metadata"].(map[string]any)
		meta["namespace"], meta["uid"], meta["generation"] = "default", "u1", 1
		body := must[[]byte](t)(msgp.AppendIntf(nil, doc))
		commit.Put = append(commit.Put, wire.Object{Key: wire.NewKey(kind, "default", meta["name"].(string), ""), Version: wire.BodyVersion("u1", body), Revision: 1, Body: body})
	}
	if err := errors.Join(d.Apply(t.Context(), commit), s.Close()); err != nil {
		t.Fatal(err)
	}
}

func (g *gateway) start() {
	g.t.Helper()
	g.proc = must[*process.Process](g.t)(process.Start(process.Spec{Name: "skerryd", Path: g.skerryd, Args: []string{"run", "-config", g.config}, Log: filepath.Join(g.dir, "log"), Grace: 10 * time.Second}))
	g.t.Cleanup(func() {
		_ = g.proc.Kill() // it may have ended by itself
		if g.t.Failed() {
			g.t.Logf("skerryd: %s", g.proc.LogTail(30))
		}
	})
	g.eventually("the agent answers for its device", func() error {
		_, err := g.ask("app", "$hw/events/device/default/pump/twin/get", "{}")
		return err
	})
}

func (g *gateway) restart() {
	g.t.Helper()
	if err := g.proc.Stop(); err != nil {
		g.t.Fatal(err)
	}
	g.start()
}

func (g *gateway) eventually(what string, ok func() error) {
	g.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

// args are what both mosquitto clients need.
func (g *gateway) args(user string, more ...string) []string {
	return append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(g.port), "-u", user, "-P", user + " secret"}, more...)
}

// pub runs mosquitto_pub.
func (g *gateway) pub(user string, more ...string) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mosquitto_pub", g.args(user, more...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mosquitto_pub %v: %w: %s", more, err, out)
	}
	return nil
}

// listener is a mosquitto_sub.
type listener struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan struct{}
}

// sub starts mosquitto_sub; it ends after the number of messages or the seconds that more gives.
func (g *gateway) sub(user string, more ...string) *listener {
	g.t.Helper()
	l := &listener{done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(g.t.Context(), 60*time.Second)
	l.cmd = exec.CommandContext(ctx, "mosquitto_sub", g.args(user, more...)...)
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	if err := l.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go func() {
		defer cancel()
		_ = l.cmd.Wait() // its time limit ends it with an error too: what it printed is judged
		close(l.done)
	}()
	return l
}

func (l *listener) wait() string {
	<-l.done
	return l.out.String()
}

// ask publishes a request, and returns the answer: mosquitto_rr subscribes first.
func (g *gateway) ask(user, topic, payload string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	var b bytes.Buffer
	cmd := exec.CommandContext(ctx, "mosquitto_rr", g.args(user, "-W", "5", "-t", topic, "-e", topic+"/result", "-m", payload)...)
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("mosquitto_rr %s: %w: %s", topic, err, b.String())
	}
	var out map[string]any
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		return nil, fmt.Errorf("%q: %w", b.String(), err)
	}
	if out["code"] != nil && out["code"].(float64) == 404 && strings.Contains(topic, "twin/get") {
		return out, errors.New("not there yet")
	}
	return out, nil
}
