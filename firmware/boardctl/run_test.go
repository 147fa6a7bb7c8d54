package boardctl

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skerry/skerry/board/inspect"
)

// gateway is a made-up one with a board of its own.
func gateway(t *testing.T) Env {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	generic := map[string]string{"arm": "generic-armv7"}[runtime.GOARCH]
	if generic == "" {
		generic = "generic-" + runtime.GOARCH
	}
	for path, text := range map[string]string{
		filepath.Join(root, "proc/device-tree/compatible"):      "acme,gateway\x00",
		filepath.Join(root, "proc/meminfo"):                     "MemTotal: 1048576 kB\n",
		filepath.Join(root, "sys/class/net/eth0/operstate"):     "up\n",
		filepath.Join(root, "sys/class/net/eth0/device/driver"): "",
		filepath.Join(dir, "acme.yaml"):                         "extends: " + generic + "\ntitle: ACME\nmatch: {deviceTree: ['acme,*']}\nnetwork: [{name: lan-1, interface: eth0, kind: ethernet}]\n",
		filepath.Join(dir, "broken.yaml"):                       "extends: " + generic + "\nwatchdog: {devcie: x}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Env{Root: root, Dir: dir}
}

func TestVerbs(t *testing.T) {
	env := gateway(t)
	for _, tc := range []struct {
		args   string
		status int
		want   []string // in the output or the error
	}{
		{"", Good, []string{"usage:", "check [NAME]"}},
		{"list", Good, []string{"acme", "ACME", "raspberrypi", "built in", "broken.yaml:2: watchdog.devcie", "did you mean device?", "* acme: recognised by the device tree's acme,gateway"}},
		{"show", Good, []string{"# ", "acme.yaml (recognised", "name: acme\n", "lan-1", "interface: eth0"}},
		{"show qemu-arm64", Good, []string{"# built in (asked for)", "9030000.pl061"}},
		{"check", Good, []string{"board acme (", "network", "lan-1", "ok", "all is as described"}},
		{"check qemu-arm64", Differs, []string{"WRONG", "/dev/vda is not there", "choose the board that fits", "what to do:"}},
		{"show nosuch", Failed, []string{"no such board", "known are acme, "}},
		{"check broken", Failed, []string{"broken.yaml:2: watchdog.devcie", "did you mean device?"}},
		{"check acme -o xml", Failed, []string{"text and json"}},
		{"check a b", Failed, []string{"too many"}},
		{"chekc", Failed, []string{"no such verb", "list, show and check"}},
		{"list x", Failed, []string{"too many"}},
	} {
		var out, stderr bytes.Buffer
		env.Stdout, env.Stderr = &out, &stderr
		status, err := Run(strings.Fields(tc.args), env)
		text := out.String()
		if err != nil {
			text += err.Error()
		}
		if status != tc.status || (err != nil) != (status == Failed) {
			t.Errorf("board %s: status %d, %v; want %d", tc.args, status, err, tc.status)
		}
		for _, w := range tc.want {
			if !strings.Contains(text, w) {
				t.Errorf("board %s does not say %q:\n%s", tc.args, w, text)
			}
		}
	}
}

func TestJSON(t *testing.T) {
	env := gateway(t)
	var out, stderr bytes.Buffer
	env.Stdout, env.Stderr = &out, &stderr
	if status, err := Run([]string{"check", "acme", "-o", "json"}, env); status != Good || err != nil {
		t.Fatalf("%d, %v", status, err)
	}
	var r inspect.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Board != "acme" || len(r.Rows) < 4 {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	env.Name = "nosuch" // as the configuration says
	if status, err := Run([]string{"check"}, env); status != Failed || err == nil {
		t.Errorf("%d, %v", status, err)
	}
}
