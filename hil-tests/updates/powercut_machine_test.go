//go:build hil

package updates

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/cutlog"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/target"
)

// TestPowerCuts records a gateway that updates itself from A to B and back, if that has not been done, cuts its power SKERRY_POWERCUTS times (500), judges what is
// left on the disk, and boots every 25th state (SKERRY_POWERCUT_BOOT says which; 0: none). SKERRY_POWERCUT_SEED makes other cuts.
func TestPowerCuts(t *testing.T) {
	number := func(name string, missing uint64) uint64 {
		n, err := strconv.ParseUint(os.Getenv(name), 10, 32)
		if err != nil {
			return missing
		}
		return n
	}
	f, cuts := campaignFolders(t), int(number("SKERRY_POWERCUTS", 500)) //nolint:gosec // 32 bits
	if _, err := os.Stat(f.complete()); err != nil {
		t.Run("record", func(t *testing.T) { record(t, f) })
	}
	c := recorded(t, f)
	c.Seed = number("SKERRY_POWERCUT_SEED", 1)
	b := &boots{t: t, f: f, every: int(number("SKERRY_POWERCUT_BOOT", 25))} //nolint:gosec // 32 bits
	c.Each = b.each
	begin := time.Now()
	res, err := c.Run(cuts)
	if err != nil {
		t.Fatal(err)
	}
	report(t, c, res, b, time.Since(begin))
	if res.Bricks > 0 || res.TornTried > 0 || res.EnvLost > 0 || b.failed > 0 {
		t.Errorf("%d bricks, %d torn slots tried, %d environments lost, %d states that did not boot:\n%s", res.Bricks, res.TornTried, res.EnvLost, b.failed, strings.Join(res.Failures, "\n"))
	}
}

// recorded opens what record has made.
func recorded(t *testing.T, f folders) Campaign {
	t.Helper()
	open := func(path string) (*os.File, int64) {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		st, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return file, st.Size()
	}
	log, logSize := open(f.log())
	disk, size := open(f.disk())
	c := Campaign{Before: disk, Size: size}
	var err error
	if c.Log, err = cutlog.Read(log, logSize); err != nil {
		t.Fatal(err)
	}
	for version, folder := range map[string]string{"1.0": f.images, "1.1": filepath.Join(f.next, "1.1", boardName), "1.2": filepath.Join(f.next, "1.2", boardName)} {
		s, err := LoadSystem(version, filepath.Join(folder, "boot.img"))
		if err != nil {
			t.Fatal(err)
		}
		c.Systems = append(c.Systems, s)
	}
	return c
}

func report(t *testing.T, c Campaign, res Result, b *boots, took time.Duration) {
	t.Helper()
	r := bench.New("powercut", os.Stdout)
	for _, x := range []struct {
		name string
		n    int
	}{
		{"power_cuts", res.Cuts}, {"bricks", res.Bricks}, {"torn_slots_tried", res.TornTried}, {"torn_slots_not_tried", res.TornIdle}, {"environments_lost", res.EnvLost},
		{"one_copy_damaged", res.OneCopy}, {"states_booted", b.done}, {"states_booted_to_the_agent", b.agents}, {"states_not_booted", b.failed}, {"log_entries", len(c.Log.Entries)},
	} {
		r.Add(x.name, float64(x.n), "count")
	}
	r.Add("campaign_s", took.Seconds(), "s")
	r.Attach("recorded", "writes and flushes of a qemu-armv7 machine's whole disk (blklogwrites): the agent and RAUC, 1.0 in A → 1.1 in B → 1.2 in A")
	r.Attach("seed", c.Seed)
	r.Attach("boots_by_version", res.Boots)
	r.Attach("failures", res.Failures)
	if err := r.Write("../../build/bench"); err != nil {
		t.Fatal(err)
	}
}

// boots boots states of a campaign.
type boots struct {
	t                    *testing.T
	f                    folders
	every                int // cuts
	done, agents, failed int
}

func (b *boots) each(c Cut, s *cutlog.State) error {
	if v := c.Verdict; v.Brick != "" || len(v.Refused) > 0 || v.EnvLost {
		b.t.Logf("%v: %+v", c, v)
	}
	if b.every == 0 || c.N%b.every != 0 || c.Verdict.Brick != "" {
		return nil
	}
	b.done++
	if !b.t.Run(fmt.Sprintf("boot-%d", c.N), func(t *testing.T) { b.boot(t, c, s) }) {
		b.failed++
	}
	return nil
}

// boot wants the slot that the judge has named, with the agent up; where the power went before the gateway had a configuration, no agent can be.
func (b *boots) boot(t *testing.T, c Cut, s *cutlog.State) {
	image := filepath.Join(t.TempDir(), "state.img")
	if _, err := process.Output(t.Context(), process.Spec{Path: "cp", Args: []string{"--sparse=always", b.f.disk(), image}}); err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Apply(disk), disk.Close()); err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir()}
	rig, err := target.QEMU(boardName)
	if err != nil {
		t.Fatal(err)
	}
	rig.QEMU.MemoryMiB = 256
	m.open(rig)
	if err := m.target.Flash(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	if err := m.target.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin, how := time.Now(), "the agent answers"
	m.eventually("commands run", func(ctx context.Context) error { _, err := target.Run(ctx, m.target, "true"); return err })
	if line := m.run("cat /proc/cmdline"); !strings.Contains(line, "skerry.slot="+string(c.Verdict.Slot)) {
		t.Fatalf("%v: slot %s had to boot: %s", c, c.Verdict.Slot, line)
	}
	if strings.Contains(m.run("test -s /etc/skerry/skerryd.yaml || echo none"), "none") {
		how = "it had no configuration yet, and no agent"
	} else {
		m.eventually("the agent answers", func(ctx context.Context) error {
			got, err := m.status(ctx)
			if err == nil && got.Running != c.Verdict.Version {
				err = fmt.Errorf("version %q runs, want %s", got.Running, c.Verdict.Version)
			}
			return err
		})
		b.agents++
	}
	t.Logf("%v: slot %s with version %s after %.0f s: %s", c, c.Verdict.Slot, c.Verdict.Version, time.Since(begin).Seconds(), how)
}
