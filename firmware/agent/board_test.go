package agent

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/skerry/skerry/firmware/config"
)

// acme is an agent on a board that is described on the device.
func acme(t *testing.T, text string) *Agent {
	t.Helper()
	dir := t.TempDir()
	arch := "architectures: [" + runtime.GOARCH + "]\n"
	if runtime.GOARCH == "arm" {
		arch += "goarm: 7\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "acme.yaml"), []byte(arch+"memory: {installed: 256Mi, budget: 66Mi}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Board = config.Board{Name: "acme", Dir: dir}
	return &Agent{cfg: cfg, log: slog.New(slog.DiscardHandler)}
}

// TestBoardsDefaults: what the board's file says are defaults, and what skerryd.yaml says wins.
func TestBoardsDefaults(t *testing.T) {
	const node = "node: {labels: {site: bench, rack: '7'}, taints: ['site=bench:NoSchedule']}\n"
	a := acme(t, node)
	a.cfg.Node.Labels = map[string]string{"site": "north"}
	if err := a.chooseBoard(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if got, want := a.nodeLabels(), (map[string]string{boardLabel: "acme", "site": "north", "rack": "7"}); !reflect.DeepEqual(got, want) {
		t.Errorf("labels %v, want %v", got, want)
	}
	if taints, err := a.registerTaints(); err != nil || len(taints) != 1 || taints[0].Value != "bench" {
		t.Errorf("taints %v, %v", taints, err)
	}
	a.cfg.Node.Taints = []string{"own:NoExecute"}
	if taints, err := a.registerTaints(); err != nil || len(taints) != 1 || taints[0].Key != "own" {
		t.Errorf("taints %v, %v", taints, err)
	}
	a = acme(t, "nod: {}\n")
	if err := a.chooseBoard(t.TempDir()); err == nil || !strings.Contains(err.Error(), "board.name") || !strings.Contains(err.Error(), "did you mean node?") {
		t.Errorf("a named board with errors: %v", err)
	}
	a.cfg.Board.Name = ""
	if err := a.chooseBoard(t.TempDir()); err != nil || !strings.HasPrefix(a.board.Name, "generic-") {
		t.Errorf("a file with errors keeps the gateway from starting, or is used: %s, %v", a.board.Name, err)
	}
}

func TestApplyBudget(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOGC", "")
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	for _, tc := range []struct {
		limit       config.Limit
		parallel    int
		heap        int64
		pulls       int
		description string
	}{
		{config.Limit{}, 0, 48 << 20, 2, "the board's"},
		{config.Limit{Given: true, Bytes: 24 << 20}, 0, 24 << 20, 1, "given"},
		{config.Limit{Given: true}, 3, math.MaxInt64, 3, "none"},
	} {
		a := acme(t, "")
		if err := a.chooseBoard(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		a.cfg.Memory.Limit, a.cfg.Pods.Images.Parallel = tc.limit, tc.parallel
		a.applyBudget()
		if got := debug.SetMemoryLimit(-1); got != tc.heap || a.cfg.Pods.Images.Parallel != tc.pulls {
			t.Errorf("%s: GOMEMLIMIT %d, %d pulls; want %d and %d", tc.description, got, a.cfg.Pods.Images.Parallel, tc.heap, tc.pulls)
		}
	}
	if got := debug.SetGCPercent(100); got != garbage {
		t.Errorf("garbage is collected at %d %%, want %d", got, garbage)
	}
	t.Setenv("GOGC", "100")
	a := acme(t, "")
	if err := a.chooseBoard(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	a.applyBudget()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("the environment says 100 %%, and garbage is collected at %d", got)
	}
}

func TestDevicePorts(t *testing.T) {
	a := acme(t, "serial: [{name: rs485-1, devices: [/dev/ttyRS485-0, /dev/ttyRS485], kind: rs485, mode: kernel}]\n")
	root := t.TempDir()
	if err := a.chooseBoard(root); err != nil {
		t.Fatal(err)
	}
	if p := DevicePorts(a.board.Descriptor, root); len(p) != 1 || p[0].Path != "/dev/ttyRS485-0" || p[0].Mode != "kernel" || len(p[0].Paths) != 2 {
		t.Errorf("%+v", p)
	}
	if err := os.MkdirAll(filepath.Join(root, "dev/ttyRS485"), 0o755); err != nil {
		t.Fatal(err)
	}
	if p := DevicePorts(a.board.Descriptor, root); p[0].Path != "/dev/ttyRS485" {
		t.Errorf("the path that is there is not taken: %+v", p)
	}
}
