//go:build hil

package updates

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/update"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/target"
	"github.com/skerry/skerry/hil-tests/scenarios"
)

// machine is a gateway in QEMU with an image of version 1.0, without a cloud.
type machine struct {
	t      *testing.T
	target target.Target
	images string // folder with what make image and make bundle have made
	dir    string
}

const machineConf = `node: {name: gw-1}
relay: {addresses: ["127.0.0.1:1"]}
pods: {enabled: false}
update: {stable: 10s, withoutCloud: 10s, healthTimeout: 3m}
`

// newMachine boots version 1.0. prepare may change the disk before.
func newMachine(t *testing.T, prepare func(m *machine)) *machine {
	t.Helper()
	m := &machine{t: t, images: os.Getenv("SKERRY_IMAGES"), dir: t.TempDir()}
	if m.images == "" {
		t.Fatal("SKERRY_IMAGES has to name a folder with skerry-qemu-armv7.img of version 1.0, and skerry-qemu-armv7.raucb of version 1.1 signed by a key that it trusts")
	}
	rig, err := target.QEMU(boardName)
	if err != nil {
		t.Fatal(err)
	}
	rig.QEMU.MemoryMiB, rig.QEMU.DiskMiB = 256, 1024
	m.open(rig)
	if err := m.target.Flash(t.Context(), filepath.Join(m.images, "skerry-qemu-armv7.img")); err != nil {
		t.Fatal(err)
	}
	prepare(m)
	m.begin()
	return m
}

// open makes the machine, which is closed when the test ends.
func (m *machine) open(rig *target.Rig) {
	m.t.Helper()
	var err error
	if m.target, err = target.Open(m.t.Context(), rig, target.Options{Dir: m.dir, Say: m.t.Logf}); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("the console's last lines:\n%s", m.target.Console().Tail(80))
		}
		if err := m.target.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// begin switches a flashed machine on and gives the agent its configuration.
func (m *machine) begin() {
	m.t.Helper()
	if err := m.target.On(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	m.eventually("commands run", func(ctx context.Context) error { _, err := target.Run(ctx, m.target, "true"); return err })
	m.run("mkdir -p /etc/skerry && cat >/etc/skerry/skerryd.yaml <<'END'\n" + machineConf + "END\nsync; systemctl start --no-block skerryd")
}

func (m *machine) run(command string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	out, err := target.Run(ctx, m.target, command)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) eventually(what string, check func(ctx context.Context) error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 8*time.Minute)
	defer cancel()
	if err := process.Poll(ctx, what, nil, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return check(ctx)
	}); err != nil {
		m.t.Fatal(err)
	}
}

// status is what the agent says of updates.
func (m *machine) status(ctx context.Context) (update.Status, error) {
	var s struct {
		Update    *update.Status `json:"update"`
		NoUpdates string         `json:"noUpdates"`
	}
	out, err := target.Run(ctx, m.target, "skerryd status -o json")
	if err != nil {
		return update.Status{}, err
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return update.Status{}, fmt.Errorf("%w: %s", err, out)
	}
	if s.Update == nil {
		return update.Status{}, fmt.Errorf("no updates: %s", s.NoUpdates)
	}
	return *s.Update, nil
}

// awaits waits until an order has ended with this result.
func (m *machine) awaits(version, slot, result string) update.Status {
	m.t.Helper()
	var s update.Status
	said := ""
	m.eventually(fmt.Sprintf("version %s in slot %s, result %q", version, slot, result), func(ctx context.Context) error {
		var err error
		if s, err = m.status(ctx); err != nil {
			return err
		}
		if line := fmt.Sprint(s.Phase, " ", s.Percent, " % ", s.Message); line != said {
			said = line
			m.t.Log(line)
		}
		if s.Phase != update.Idle || s.Running != version || string(s.Slot) != slot || !regexp.MustCompile(result).MatchString(s.Result) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

// install plugs in a stick with a bundle and orders it.
func (m *machine) install(bundle string) {
	m.t.Helper()
	st, err := os.Stat(bundle)
	if err != nil {
		m.t.Fatal(err)
	}
	stick := filepath.Join(m.dir, "stick.img")
	if err := scenarios.Stick(m.t.Context(), stick, int(st.Size()>>20)+40, map[string]string{"update.raucb": bundle}); err != nil {
		m.t.Fatal(err)
	}
	if err := m.target.InsertStick(m.t.Context(), stick); err != nil {
		m.t.Fatal(err)
	}
	m.eventually("the stick is there", func(ctx context.Context) error {
		_, err := target.Run(ctx, m.target, "mkdir -p /run/stick; mountpoint -q /run/stick || mount -o ro /dev/sda1 /run/stick; test -f /run/stick/update.raucb")
		return err
	})
	before, err := m.status(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Log(m.run("skerryd update install /run/stick/update.raucb"))
	m.eventually("the bundle is copied", func(ctx context.Context) error {
		s, err := m.status(ctx)
		if err == nil && s.Result == before.Result && (s.Phase == update.Idle || s.Phase == update.Downloading) {
			err = fmt.Errorf("%+v", s)
		}
		return err
	})
	m.run("umount /run/stick")
	if err := m.target.RemoveStick(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
}

// TestUpdateOnAMachine: a bundle from a stick is installed by RAUC, tried and confirmed; one that was altered changes nothing.
func TestUpdateOnAMachine(t *testing.T) {
	m := newMachine(t, func(*machine) {})
	m.awaits("1.0", "A", "")
	good := filepath.Join(m.images, "skerry-qemu-armv7.raucb")
	m.install(good)
	m.awaits("1.1", "B", "runs and is confirmed")
	t.Log(m.run("cat /proc/cmdline; skerryd boot-backend get-primary; skerryd update status; rauc status"))
}

// TestAlteredBundleOnAMachine: RAUC refuses it, and nothing changes.
func TestAlteredBundleOnAMachine(t *testing.T) {
	m := newMachine(t, func(*machine) {})
	good := filepath.Join(m.images, "skerry-qemu-armv7.raucb")
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-300] ^= 1
	bad := filepath.Join(m.dir, "altered.raucb")
	if err := os.WriteFile(bad, b, 0o600); err != nil {
		t.Fatal(err)
	}
	m.install(bad)
	if s := m.awaits("1.0", "A", "is not accepted"); !strings.Contains(s.Result, "ignature") {
		t.Errorf("an altered bundle gives %+v", s)
	}
}

// disk is the file of the machine's disk.
func (m *machine) disk() string {
	m.t.Helper()
	d, ok := m.target.(interface{ Disk() string })
	if !ok {
		m.t.Fatal("the machine does not say where its disk is")
	}
	return d.Disk()
}

// writeSlotB puts a system into slot B from outside, as an installation would.
func (m *machine) writeSlotB(folder string) {
	m.t.Helper()
	disk := m.disk()
	for partition, image := range map[string]string{"root-b": "rootfs.img", "boot-b": "boot.img"} {
		at, err := scenarios.PartitionStart(disk, partition)
		if err != nil {
			m.t.Fatal(err)
		}
		if _, err := process.Output(m.t.Context(), process.Spec{Path: "dd", Args: []string{
			"if=" + filepath.Join(folder, image), "of=" + disk, "bs=1M", "oflag=seek_bytes", "seek=" + fmt.Sprint(at), "conv=notrunc",
		}}); err != nil {
			m.t.Fatal(err)
		}
	}
}

// TestTrialOnAMachine: what is left of an installation to slot B when the power fails before the restart: the new system boots, is tried, and confirmed.
func TestTrialOnAMachine(t *testing.T) {
	m := newMachine(t, func(m *machine) { m.writeSlotB(filepath.Join(m.images, "new")) })
	m.awaits("1.0", "A", "")
	m.run("systemctl stop skerryd; mkdir -p /var/lib/skerry/updates; " +
		`echo '{"phase":"Rebooting","order":{"id":"one","bundle":"/x"},"version":"1.1","from":"A","to":"B","fromVersion":"1.0","bootID":"another"}' >/var/lib/skerry/updates/state.json; ` +
		"/usr/lib/skerry/boot-backend set-primary B; sync")
	if err := m.target.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.target.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.awaits("1.1", "B", "version 1.1 runs and is confirmed")
	t.Log(m.run("cat /proc/cmdline; skerryd boot-backend get-primary; skerryd boot-backend get-state A; skerryd update status"))
}
