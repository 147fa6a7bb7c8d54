//go:build integration

package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"go.yaml.in/yaml/v3"

	"github.com/skerry/skerry/firmware/control"
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

// gateway is a skerryd whose store already holds devices, as after a restart without a network.
type gateway struct {
	t      *testing.T
	dir    string
	ctl    string // skerryctl: skerryd by that name
	config string
	proc   *process.Process
}

func newGateway(t *testing.T, manifest string) *gateway {
	t.Helper()
	bin := os.Getenv("SKERRY_BIN")
	if bin == "" {
		bin = "../../build/bin"
	}
	skerryd := must[string](t)(filepath.Abs(filepath.Join(bin, "skerryd")))
	if _, err := os.Stat(skerryd); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	dir := must[string](t)(os.MkdirTemp("", "ctl")) // short: paths of sockets are
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &gateway{t: t, dir: dir, ctl: filepath.Join(dir, "skerryctl"), config: filepath.Join(dir, "skerryd.yaml")}
	if err := os.Symlink(skerryd, g.ctl); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("node: {name: gw-1}\nrelay: {addresses: [\"127.0.0.1:9\"]}\ndataDir: %s/data\npods: {enabled: false}\nmetrics: {address: \"\"}\nsocket: %s/skerryd.sock\n", dir, dir)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.fill(manifest)
	return g
}

// fill puts manifests into the store.
func (g *gateway) fill(manifest string) {
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
	for _, text := range strings.Split(manifest, "\n---\n") {
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
	g.proc = must[*process.Process](g.t)(process.Start(process.Spec{Name: "skerryd", Path: g.ctl, Args: []string{"run", "-config", g.config}, Log: filepath.Join(g.dir, "log"), Grace: 5 * time.Second}))
	g.t.Cleanup(func() {
		_ = g.proc.Kill() // it may have ended by itself
		if g.t.Failed() {
			g.t.Logf("skerryd: %s", g.proc.LogTail(30))
		}
	})
	eventually(g.t, "the control service answers", func() error {
		_, err := control.NewClient(g.socket()).Devices(g.t.Context())
		return err
	})
}

func (g *gateway) socket() string { return filepath.Join(g.dir, "control.sock") }

// run runs skerryctl device.
func (g *gateway) run(args ...string) (out string, status int) {
	g.t.Helper()
	return g.runIn(g.t.Context(), args...)
}

func (g *gateway) runIn(ctx context.Context, args ...string) (out string, status int) {
	cmd := exec.CommandContext(ctx, g.ctl, append([]string{"device", "-config", g.config}, args...)...)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return b.String(), exit.ExitCode()
	}
	if err != nil {
		g.t.Error(err)
	}
	return b.String(), 0
}

// expect runs a command and checks its status and what it says.
func (g *gateway) expect(status int, says []string, args ...string) string {
	g.t.Helper()
	out, got := g.run(args...)
	if got != status {
		g.t.Errorf("%v: exit status %d, want %d:\n%s", args, got, status, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			g.t.Errorf("%v: %q is not in:\n%s", args, s, out)
		}
	}
	return out
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// line makes a pair of serial ports.
func line(t *testing.T, dir, name string) (ours, theirs string) {
	t.Helper()
	ours, theirs = filepath.Join(dir, name), filepath.Join(dir, name+"-device")
	spawn(t, process.Spec{Name: "socat", Path: "socat", Args: []string{"pty,raw,echo=0,link=" + ours, "pty,raw,echo=0,link=" + theirs}})
	eventually(t, "socat's ports", func() error { _, err := os.Stat(theirs); return err })
	return ours, theirs
}

func spawn(t *testing.T, spec process.Spec) *process.Process {
	t.Helper()
	spec.Log, spec.Grace = filepath.Join(t.TempDir(), "log"), 2*time.Second
	p := must[*process.Process](t)(process.Start(spec))
	t.Cleanup(func() {
		_ = p.Kill() // it may have ended by itself
		if t.Failed() {
			t.Logf("%s: %s", spec.Name, p.LogTail(20))
		}
	})
	return p
}

// pymodbus runs a device: unit 1, input register i holds 3 i + 7.
func pymodbus(t *testing.T, mode, where string) {
	t.Helper()
	spawn(t, process.Spec{Name: "pymodbus " + mode, Path: "/usr/bin/python3", Args: []string{"../modbus/testdata/pymodbus_peer.py", mode, where}})
}

func freePort(t *testing.T) int {
	t.Helper()
	ln := must[net.Listener](t)((&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
