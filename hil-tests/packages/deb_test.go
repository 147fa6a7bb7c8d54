//go:build integration

package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/machine"
	"github.com/skerry/skerry/hil-tests/rig/process"
)

const configuration = `node: {name: gw-1}
relay: {addresses: ["127.0.0.1:7443"]}
pods: {enabled: false}
`

// The life of the package on a gateway: installed without a configuration, configured, killed, upgraded, removed, purged.
func TestDebianPackageUnderSystemd(t *testing.T) {
	m := machine.Boot(t, bin(t, "debian-root"))
	first, second := build(t, "0.1.0~1"), build(t, "0.1.0~2")

	out := install(t, m, first)
	if !strings.Contains(out, "relay.addresses: is empty") || !strings.Contains(out, "skerryd join") {
		t.Errorf("the installation does not tell what is missing and what to do:\n%s", out)
	}
	if state := unit(t, m, "ActiveState"); state != "inactive" {
		t.Errorf("skerryd without a configuration is %s", state)
	}
	if out := run(t, m, "systemctl", "is-enabled", "skerryd", "skerry-shutdown"); out != "enabled\nenabled" {
		t.Errorf("the units are %q, not enabled", out)
	}

	configure(t, m, configuration)
	run(t, m, "systemctl", "start", "skerryd", "skerry-shutdown")
	answers(t, m, "gw-1")
	before := unit(t, m, "MainPID")
	run(t, m, "systemctl", "kill", "--signal=SIGKILL", "skerryd")
	eventually(t, "systemd starts the killed agent again", func() error {
		if now := unit(t, m, "MainPID"); now == before || now == "0" {
			return fmt.Errorf("MainPID is %s and was %s", now, before)
		}
		return nil
	})
	answers(t, m, "gw-1")

	before = unit(t, m, "MainPID")
	install(t, m, second)
	if got := run(t, m, "cat", "/etc/skerry/skerryd.yaml"); got != strings.TrimSpace(configuration) {
		t.Errorf("the upgrade has changed the configuration:\n%s", got)
	}
	if now := unit(t, m, "MainPID"); now == before || now == "0" {
		t.Errorf("after the upgrade the agent's process is %s; before it was %s", now, before)
	}
	answers(t, m, "gw-1")

	run(t, m, "dpkg", "--remove", "skerryd")
	if out, err := m.Run(context.Background(), "pidof", "skerryd"); err == nil {
		t.Errorf("the agent (%s) runs on after its removal", strings.TrimSpace(out))
	}
	run(t, m, "dpkg", "--purge", "skerryd")
	if _, err := os.Stat(filepath.Join(m.Root, "etc/skerry")); !os.IsNotExist(err) {
		t.Errorf("/etc/skerry after the purge: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.Root, "var/lib/skerry/seal.key")); err != nil {
		t.Errorf("the gateway's state did not survive the purge: %v", err)
	}
}

// What the units forbid, judged by the kernel: the agent has the rights that are listed, and no others.
func TestSandbox(t *testing.T) {
	m := machine.Boot(t, bin(t, "debian-root"))
	install(t, m, build(t, "0.1.0~1"))
	configure(t, m, configuration)
	run(t, m, "systemctl", "start", "skerryd")
	answers(t, m, "gw-1")
	status := run(t, m, "cat", "/proc/"+unit(t, m, "MainPID")+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the agent's process lacks %q:\n%s", want, status)
		}
	}
	// Volumes that the agent mounts have to be seen by the container runtime.
	if agent, machine := run(t, m, "readlink", "/proc/"+unit(t, m, "MainPID")+"/ns/mnt"), run(t, m, "readlink", "/proc/1/ns/mnt"); agent != machine {
		t.Errorf("the agent has a mount namespace of its own: %s, not %s", agent, machine)
	}

	run(t, m, "install", "-D", "-m", "644", "/usr/share/doc/skerryd/examples/devices-only.conf", "/etc/systemd/system/skerryd.service.d/devices-only.conf")
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "restart", "skerryd")
	answers(t, m, "gw-1")
	// CAP_NET_BIND_SERVICE (10) and CAP_SYS_RESOURCE (24), as far as this machine has them itself.
	if status := run(t, m, "grep", "CapBnd", "/proc/"+unit(t, m, "MainPID")+"/status"); !subset(status, 1<<10|1<<24) {
		t.Errorf("devices-only.conf leaves more rights than two: %s", status)
	}
	if _, err := m.Run(context.Background(), "nsenter", "-t", unit(t, m, "MainPID"), "-m", "touch", "/etc/skerry/x"); err == nil {
		t.Error("with devices-only.conf /etc can be written")
	}
	if _, err := m.Run(context.Background(), "nsenter", "-t", unit(t, m, "MainPID"), "-m", "touch", "/var/lib/skerry/x"); err != nil {
		t.Errorf("with devices-only.conf the state cannot be written: %v", err)
	}
}

// The same sources make the same package, byte for byte, whoever makes it.
func TestReproducible(t *testing.T) {
	a, b := read(t, build(t, "0.1.0~1")), read(t, buildAs(t, "0.1.0~1", "umask 077; LC_ALL=C.UTF-8 TZ=Pacific/Auckland "))
	if !bytes.Equal(a, b) {
		t.Error("two builds of the same package differ")
	}
}

func subset(line string, mask uint64) bool {
	var bits uint64
	if _, err := fmt.Sscanf(line, "CapBnd: %x", &bits); err != nil {
		return false
	}
	return bits&^mask == 0
}

func bin(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("SKERRY_BIN")
	if dir == "" {
		t.Fatal("SKERRY_BIN is not set: make test-integration")
	}
	return filepath.Join(dir, name)
}

// build returns the path of a package for this machine with that version.
func build(t *testing.T, version string) string { return buildAs(t, version, "") }

func buildAs(t *testing.T, version, prefix string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.Command("bash", "-c", prefix+`scripts/build-deb.sh amd64 "$1" "$2"`, "bash", bin(t, "skerryd"), out)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "DEB_VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build-deb: %v\n%s", err, text)
	}
	return filepath.Join(out, "skerryd_"+version+"_amd64.deb")
}

func install(t *testing.T, m *machine.Machine, deb string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Root, "root/skerryd.deb"), read(t, deb), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, m, "dpkg", "--force-confold", "--install", "/root/skerryd.deb")
}

func configure(t *testing.T, m *machine.Machine, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Root, "etc/skerry/skerryd.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func run(t *testing.T, m *machine.Machine, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := m.Run(ctx, command...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// unit returns one property of skerryd.service.
func unit(t *testing.T, m *machine.Machine, property string) string {
	t.Helper()
	return run(t, m, "systemctl", "show", "--value", "--property="+property, "skerryd")
}

// answers waits until the agent tells its status, under the name that the configuration gives it.
func answers(t *testing.T, m *machine.Machine, node string) {
	t.Helper()
	eventually(t, "the agent answers", func() error {
		out, err := m.Run(context.Background(), "skerryctl", "status", "-o", "json")
		if err != nil {
			return err
		}
		var status struct {
			Node string `json:"node"`
		}
		if err := json.Unmarshal([]byte(out), &status); err != nil || status.Node != node {
			return fmt.Errorf("node %q, want %q: %w", status.Node, node, errors.Join(err, errNotYet))
		}
		return nil
	})
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := process.Poll(ctx, what, nil, func(context.Context) error { return try() }); err != nil {
		t.Fatal(err)
	}
}
