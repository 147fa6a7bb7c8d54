//go:build integration

package packages

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry/skerry/hil-tests/rig/machine"
)

var errNotYet = errors.New("not yet")

// makePackage evaluates the Buildroot package with these options, and returns what it says.
func makePackage(t *testing.T, target string, options ...string) (string, error) {
	t.Helper()
	tree, err := filepath.Abs("../../board/packages/buildroot")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", append([]string{"-s", "-f", "testdata/buildroot.mk", target, "TREE=" + tree, "BR2_EXTERNAL_SKERRY_PATH=" + tree, `BR2_PACKAGE_SKERRYD_VERSION="v1"`}, options...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestBuildrootBuildsForTheProcessor(t *testing.T) {
	for _, test := range []struct {
		options []string
		want    string
	}{
		{[]string{"BR2_arm=y", `BR2_PACKAGE_SKERRYD_GOARM="5"`}, "CGO_ENABLED=0 GOARM=5 go build"},
		{[]string{"BR2_arm=y", `BR2_PACKAGE_SKERRYD_GOARM="7"`, `BR2_PACKAGE_SKERRYD_TAGS="noopcua noserial"`}, `-tags "noopcua noserial" github.com/skerry/skerry/firmware/cmd/skerryd`},
		{[]string{"BR2_aarch64=y"}, `CGO_ENABLED=0 go build -ldflags "-s -w -X github.com/skerry/skerry.Version=v1"`},
	} {
		out, err := makePackage(t, "show", test.options...)
		if err != nil || !strings.Contains(out, test.want) {
			t.Errorf("%v: %v, want %q in\n%s", test.options, err, test.want, out)
		}
	}
	out, err := makePackage(t, "show", "BR2_arm=y", `BR2_PACKAGE_SKERRYD_GOARM="8"`)
	if err == nil || !strings.Contains(out, `BR2_PACKAGE_SKERRYD_GOARM is "8"; allowed: 5, 6, 7`) {
		t.Errorf("GOARM 8: %v\n%s", err, out)
	}
}

func TestBuildrootInstalls(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"usr/bin", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := makePackage(t, "install", "TARGET_DIR="+dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path, want := range map[string]string{
		"etc/skerry/skerryd.yaml":                        "addresses: []",
		"etc/init.d/S90skerryd":                          "BusyBox",
		"usr/lib/systemd/system/skerryd.service":         "ExecStart=/usr/bin/skerryd run",
		"usr/lib/systemd/system/skerry-shutdown.service": "skerryd shutdown",
	} {
		if !strings.Contains(string(read(t, filepath.Join(dir, path))), want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "usr/bin/skerryctl")); err != nil || to != "skerryd" {
		t.Errorf("skerryctl leads to %q: %v", to, err)
	}
}

// The script for BusyBox init: it starts a killed agent again, and stop ends both the agent and whoever would start it.
func TestInitScript(t *testing.T) {
	m := machine.Boot(t, bin(t, "debian-root"))
	install(t, m, build(t, "0.1.0~1"))
	configure(t, m, configuration)
	if err := os.WriteFile(filepath.Join(m.Root, "etc/init.d/S90skerryd"), read(t, "../../board/packages/buildroot/package/skerryd/S90skerryd"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, m, "/etc/init.d/S90skerryd", "start")
	answers(t, m, "gw-1")
	before := run(t, m, "pidof", "skerryd")
	run(t, m, "kill", "-9", before)
	eventually(t, "the killed agent is started again", func() error {
		if now, err := m.Run(t.Context(), "pidof", "skerryd"); err != nil || strings.TrimSpace(now) == before {
			return fmt.Errorf("skerryd is process %q, it was %s: %w", now, before, errors.Join(err, errNotYet))
		}
		return nil
	})
	answers(t, m, "gw-1")
	if out := run(t, m, "/etc/init.d/S90skerryd", "start"); !strings.Contains(out, "runs already") {
		t.Errorf("a second start says %q", out)
	}
	run(t, m, "/etc/init.d/S90skerryd", "stop")
	if out, err := m.Run(t.Context(), "pidof", "skerryd"); err == nil {
		t.Errorf("skerryd (%s) runs on after stop", out)
	}
	if _, err := m.Run(t.Context(), "pgrep", "-f", "S90skerryd"); err == nil {
		t.Error("what would start skerryd again runs on after stop")
	}
}
