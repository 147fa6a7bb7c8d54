//go:build hil

package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/target"
	"github.com/skerry/skerry/hil-tests/scenarios"
)

// awake brings the gateway to where scenarios begin: flashed, on, enrolled and Ready. It does that once; after a scenario that failed, the power goes off and on.
func (w *world) awake(t *testing.T) {
	t.Helper()
	if w.on.IsZero() {
		w.flash(t)
		w.powerOn(t)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if process.Poll(ctx, "the gateway is as a scenario left it", nil, w.ready) == nil {
		return
	}
	t.Log("the gateway is not Ready: its power goes off and on")
	if err := errors.Join(w.target.Cut(t.Context()), w.target.On(t.Context()), w.target.Link(t.Context(), true)); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootPatience, "the node is Ready", w.ready)
}

// flash writes the board's image, with the provisioning file of this run in it.
func (w *world) flash(t *testing.T) {
	t.Helper()
	rig := w.target.Rig()
	folder := os.Getenv("HIL_IMAGES")
	if folder == "" {
		folder = filepath.Join(w.Module, "build", "images")
	}
	source := filepath.Join(folder, rig.Board, "skerry-"+rig.Board+".img")
	if _, err := os.Stat(source); err != nil {
		t.Fatalf("the board's image is missing (make image BOARD=%s): %v", rig.Board, err)
	}
	token, err := w.Ctl(t.Context(), "token", "create", "--node", w.Node)
	if err != nil {
		t.Fatal(err)
	}
	image, file := filepath.Join(w.dir, "flash.img"), filepath.Join(w.dir, "skerry-provision.yaml")
	text := provisionFile(w.Node, w.relay, strings.TrimSpace(token))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := process.Output(t.Context(), process.Spec{Path: "cp", Args: []string{"--sparse=always", "--", source, image}}); err != nil {
		t.Fatal(err)
	}
	if err := scenarios.PutFiles(t.Context(), image, "provision", map[string]string{"skerry-provision.yaml": file}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), flashPatience)
	defer cancel()
	if err := w.target.Flash(ctx, image); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(image) // 600 MB
}

func provisionFile(node, relay, token string) string {
	return fmt.Sprintf("node: %s\nrelays: [%q]\ntoken: %q\nconfig: {update: {stable: 20s}}\n", node, relay, token)
}

// powerOn is the first start: until commands run, and until the node is Ready.
func (w *world) powerOn(t *testing.T) {
	t.Helper()
	w.on = time.Now()
	if err := w.target.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, bootPatience, "commands run on the gateway", w.answers)
	w.times["boot_to_shell_s"] = time.Since(w.on)
	w.joinByHand(t)
	eventually(t, bootPatience, "the node is Ready", w.ready)
	w.times["boot_to_enrolled_s"] = time.Since(w.on)
}

// answers is nil once commands run on the gateway.
func (w *world) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := w.bootID(ctx)
	return err
}

// joinByHand enrols a gateway whose system does not read a provisioning file: another one's image, with skerryd in it.
func (w *world) joinByHand(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if process.Poll(ctx, "the gateway configures itself", nil, func(ctx context.Context) error {
		_, err := w.exec(ctx, "test -e /etc/skerry/skerryd.yaml")
		return err
	}) == nil {
		return
	}
	t.Log("the gateway has not configured itself: it is told by commands")
	token, err := w.Ctl(t.Context(), "token", "create", "--node", w.Node)
	if err != nil {
		t.Fatal(err)
	}
	w.run(t, fmt.Sprintf("mkdir -p /etc/skerry; printf 'node: {name: %s}\nrelay: {addresses: [%q]}\nupdate: {stable: 20s}\n' >/etc/skerry/skerryd.yaml; umask 077; printf '%%s' '%s' >/run/token", w.Node, w.relay, strings.TrimSpace(token)))
	w.run(t, "skerryd join -token-file /run/token && rm /run/token && systemctl restart skerryd")
}

// boot: the power has come on for the first time.
func boot(t *testing.T, w *world) {
	if isQEMU(w.target.Rig()) {
		if err := w.slot(t.Context(), "A"); err != nil {
			t.Errorf("the first start: %v", err)
		}
	}
	if failed := w.run(t, "systemctl list-units --failed --no-legend --plain"); failed != "" {
		t.Errorf("units that failed: %s", failed)
	}
	if root := w.run(t, "grep ' / squashfs' /proc/self/mounts"); !strings.Contains(root, " ro,") {
		t.Errorf("the root can be written: %s", root)
	}
	t.Logf("commands run after %.1f s", w.times["boot_to_shell_s"].Seconds())
}

// enrol: the token of the provisioning file is used up and gone, and nothing of it is left on the disk.
func enrol(t *testing.T, w *world) {
	t.Logf("the node was Ready after %.1f s", w.times["boot_to_enrolled_s"].Seconds())
	n, err := w.node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if board := n.Labels["node.skerry.dev/board"]; board != w.target.Rig().Board {
		t.Errorf("the node says that it is board %q", board)
	}
	text, err := os.ReadFile(filepath.Join(w.dir, "skerry-provision.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(string(text), "token: ")
	token = strings.Trim(strings.TrimSpace(token), `"`)
	if left := w.run(t, "grep -rl '"+token+"' /boot/provision /etc/skerry /run 2>/dev/null || true"); left != "" {
		t.Errorf("the token is still in %s", left)
	}
}

// boardCheck: the descriptor and the machine agree.
func boardCheck(t *testing.T, w *world) {
	out, err := w.exec(t.Context(), "skerryctl board check")
	t.Log(out)
	if err != nil || !strings.Contains(out, "all is as described") {
		t.Errorf("skerryctl board check: %v", err)
	}
}

// linkCut: without its network the gateway goes on, and comes back by itself.
func linkCut(t *testing.T, w *world) {
	if err := w.target.Link(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the agent knows that it is alone", func(ctx context.Context) error {
		out, err := w.exec(ctx, "skerryctl status -o json")
		if err == nil && strings.Contains(strings.ReplaceAll(out, " ", ""), `"connected":true`) {
			err = errors.New("it says that it is connected")
		}
		return err
	})
	if err := w.target.Link(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)
}

func (w *world) connected(ctx context.Context) error {
	out, err := w.exec(ctx, "skerryctl status -o json")
	if err == nil && !strings.Contains(strings.ReplaceAll(out, " ", ""), `"connected":true`) {
		err = fmt.Errorf("status: %.300s", out)
	}
	return err
}

// powerCuts is how often the plug is pulled.
const powerCuts = 3

// powerCut: the plug is pulled at random moments of start and work. The gateway comes back as the same node.
func powerCut(t *testing.T, w *world) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("HIL_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("HIL_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range powerCuts {
		after := time.Duration(random.Int64N(int64(40 * time.Second)))
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(after):
		}
		if err := errors.Join(w.target.Cut(t.Context()), w.target.On(t.Context())); err != nil {
			t.Fatalf("cut %d, %v after power came: %v", i, after, err)
		}
	}
	eventually(t, bootPatience, "commands run on the gateway", w.answers)
	eventually(t, patience, "the agent is connected again", w.connected)
	eventually(t, patience, "the node is Ready", w.ready)
}

// watchdog: an agent that hangs is ended by what watches it, and the gateway works again.
func watchdog(t *testing.T, w *world) {
	before := w.run(t, "systemctl show -p MainPID --value skerryd.service")
	w.run(t, "kill -STOP "+before)
	eventually(t, bootPatience, "the agent runs again", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		now, err := w.exec(ctx, "systemctl show -p MainPID --value skerryd.service; cat /proc/uptime")
		pid, _, _ := strings.Cut(now, "\n")
		if err == nil && (pid == before || pid == "0" || pid == "") {
			err = fmt.Errorf("process %s", pid)
		}
		return err
	})
	eventually(t, patience, "the agent is connected again", w.connected)
	machine, ok := w.target.(interface{ Events(string) int })
	if !ok {
		return
	}
	// The kernel hangs: nothing feeds the hardware any more.
	resets, id := machine.Events(target.EventWatchdog), ""
	id, err := w.bootID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found := w.run(t, "cat /sys/class/watchdog/watchdog0/identity 2>/dev/null || echo none"); !strings.Contains(found, "i6300") {
		t.Logf("the machine's watchdog is %s: a kernel that hangs stays so", found)
		return
	}
	w.run(t, "(sleep 1; echo 0 >/proc/sys/kernel/panic; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
	w.rebooted(t, id)
	if now := machine.Events(target.EventWatchdog); now <= resets {
		t.Errorf("the machine started again, but not by its watchdog")
	}
	eventually(t, patience, "the agent is connected again", w.connected)
}
