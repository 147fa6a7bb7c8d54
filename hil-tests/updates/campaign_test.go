package updates

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/gpt"
	"github.com/skerry/skerry/board/verity"
	"github.com/skerry/skerry/hil-tests/cutlog"
)

const (
	a = bootenv.A
	b = bootenv.B

	bootLen = 32 << 10
	rootLen = 64 << 10
)

// small is a gateway's disk of a megabyte with the writers of a real one: bootenv's, and an installation like RAUC's.
type small struct {
	*cutlog.Recorder
	t      *testing.T
	parts  Partitions
	before []byte
	list   []System
	how    mutant
}

// mutant is what a writer does wrong.
type mutant struct {
	envNotFlushed  bool // copies of the boot environment are written without a flush
	envBothAtOnce  bool // … both, and one flush behind them
	slotNotFlushed bool // the slot is made the one that boots before its content is flushed
	slotTooEarly   bool // … before it is written
	notMarkedBad   bool // a slot that is written keeps its tries, in an order in which it is first
	bootNotFlushed bool // the boot script's two writes are not flushed: U-Boot and a disk that does not write through
}

// system makes one: what its boot partition and its root hold.
func (d *small) system(version string, seed byte) (boot, root []byte) {
	d.t.Helper()
	rng := rand.NewChaCha8([32]byte{seed})
	data := make([]byte, rootLen)
	_, _ = rng.Read(data)
	copy(data, "hsqs")
	binary.LittleEndian.PutUint64(data[40:], rootLen)
	tree, hash, err := verity.Tree(bytes.NewReader(data), verity.Superblock{Blocks: rootLen / verity.BlockSize, Salt: []byte{seed}})
	if err != nil {
		d.t.Fatal(err)
	}
	boot = make([]byte, bootLen)
	_, _ = rng.Read(boot)
	copy(boot[bootLen/2:], "slotargs=skerry.roothash="+hex.EncodeToString(hash[:])+"\n")
	s, err := NewSystem(version, boot)
	if err != nil {
		d.t.Fatal(err)
	}
	d.list = append(d.list, s)
	return boot, append(data, tree...)
}

func newSmall(t *testing.T, how mutant) *small {
	t.Helper()
	table := gpt.Table{Sectors: 2 << 11}
	at := uint64(64)
	for i, p := range []struct {
		name string
		size uint64
	}{{"firmware", 8 << 10}, {"env-a", bootenv.Size}, {"env-b", bootenv.Size}, {"boot-a", bootLen}, {"boot-b", bootLen}, {"root-a", 128 << 10}, {"root-b", 128 << 10}, {"data", 64 << 10}} {
		table.Partitions = append(table.Partitions, gpt.Partition{Name: p.name, Type: gpt.Linux, ID: gpt.GUID{byte(i + 1)}, First: at, Last: at + p.size/gpt.Sector - 1})
		at += p.size / gpt.Sector
	}
	disk := make([]byte, table.Sectors*gpt.Sector)
	copy(disk, table.Primary())
	copy(disk[table.BackupOffset():], table.Backup())
	d := &small{t: t, how: how}
	var err error
	if d.parts, err = Layout(bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	copy(disk[d.parts.Firmware.Start:], "the boot script")
	boot, root := d.system("1.0", 1)
	for _, s := range []bootenv.Slot{a, b} {
		copy(disk[d.parts.Boot[s].Start:], boot)
		copy(disk[d.parts.Root[s].Start:], root)
	}
	d.before, d.Recorder = bytes.Clone(disk), cutlog.NewRecorder(disk)
	return d
}

// part is a partition of the small disk.
type part struct {
	d    *small
	area Area
	sync bool
}

func (p part) ReadAt(b []byte, off int64) (int, error)  { return p.d.ReadAt(b, p.area.Start+off) }
func (p part) WriteAt(b []byte, off int64) (int, error) { return p.d.WriteAt(b, p.area.Start+off) }
func (p part) Forget() error                            { return nil }

func (p part) Sync() error {
	if !p.sync {
		return nil
	}
	return p.d.Sync()
}

// env changes the boot environment as the agent and RAUC's back end do.
func (d *small) env(change func(e *bootenv.Env)) {
	d.t.Helper()
	d.write(!d.how.envNotFlushed && !d.how.envBothAtOnce, change)
}

func (d *small) write(sync bool, change func(e *bootenv.Env)) {
	d.t.Helper()
	copies := [2]bootenv.Copy{part{d, d.parts.Env[0], sync}, part{d, d.parts.Env[1], sync}}
	if _, err := bootenv.New(copies, bootenv.Size).Update(func(e *bootenv.Env) error { change(e); return nil }); err != nil {
		d.t.Fatal(err)
	}
	if d.how.envBothAtOnce {
		d.flush()
	}
}

func (d *small) flush() {
	if err := d.Sync(); err != nil {
		d.t.Fatal(err)
	}
}

// boot does what the script does, on a disk that writes through for U-Boot, which knows no flush.
func (d *small) boot(want bootenv.Slot) {
	d.t.Helper()
	d.write(!d.how.bootNotFlushed, func(e *bootenv.Env) {
		slot, next := e.Boot()
		if slot != want {
			d.t.Fatalf("slot %s boots, want %s", slot, want)
		}
		next.Seq = e.Seq // Update counts
		*e = next
	})
}

// install writes a system into a slot, as RAUC does with our back end.
func (d *small) install(slot bootenv.Slot, version string, seed byte) {
	d.t.Helper()
	boot, root := d.system(version, seed)
	if d.how.notMarkedBad {
		d.env(func(e *bootenv.Env) { e.SetPrimary(slot) })
	} else {
		d.env(func(e *bootenv.Env) { e.SetGood(slot, false) })
	}
	if d.how.slotTooEarly {
		d.env(func(e *bootenv.Env) { e.SetPrimary(slot) })
	}
	d.put(d.parts.Root[slot], root)
	d.put(d.parts.Boot[slot], boot)
	if !d.how.slotNotFlushed {
		d.flush()
	}
	d.env(func(e *bootenv.Env) { e.SetPrimary(slot) })
}

func (d *small) put(area Area, content []byte) {
	for at := 0; at < len(content); at += 8 << 10 {
		if _, err := d.WriteAt(content[at:min(len(content), at+8<<10)], area.Start+int64(at)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// story is a gateway that updates itself from A to B and back.
func story(t *testing.T, how mutant) Campaign {
	t.Helper()
	d := newSmall(t, how)
	confirm := func(s bootenv.Slot) { d.env(func(e *bootenv.Env) { e.Confirm(s) }) }
	d.boot(a)
	confirm(a)
	d.install(b, "1.1", 2)
	d.boot(b)
	confirm(b)
	d.install(a, "1.2", 3)
	d.boot(a)
	confirm(a)
	log, err := d.Log()
	if err != nil {
		t.Fatal(err)
	}
	return Campaign{Before: bytes.NewReader(d.before), Size: int64(len(d.before)), Log: log, Systems: d.list, Seed: 1}
}

// TestPowerCutsOfAnUpdate: whenever the power fails, a whole system boots, and no slot is tried that is not whole.
func TestPowerCutsOfAnUpdate(t *testing.T) {
	res, err := story(t, mutant{}).All(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cuts, %d with a torn slot that is not tried, %d with one torn copy of the boot environment, then %v", res.Cuts, res.TornIdle, res.OneCopy, res.Boots)
	if res.Bricks > 0 || res.TornTried > 0 || res.EnvLost > 0 {
		t.Errorf("after %d cuts %d bricks, %d torn slots tried, %d environments lost:\n%s", res.Cuts, res.Bricks, res.TornTried, res.EnvLost, strings.Join(res.Failures, "\n"))
	}
	// A campaign that never finds the gateway in the middle of something shows nothing.
	for version, n := range map[string]int{"1.0": 20, "1.1": 20, "1.2": 5} {
		if res.Boots[version] < n {
			t.Errorf("version %s came up %d times", version, res.Boots[version])
		}
	}
	if res.Cuts < 500 || res.TornIdle < 100 || res.OneCopy < 50 {
		t.Errorf("the cuts hit too little: %+v", res)
	}
}

// TestWritersThatLoseGateways: the judge sees what each of these faults can do, in every cut and in a campaign of 300 of them.
func TestWritersThatLoseGateways(t *testing.T) {
	for _, c := range []struct {
		name  string
		how   mutant
		wants string // of a brick's reason; empty: a torn slot is tried, or the environment is lost
	}{
		{"environment without flush", mutant{envNotFlushed: true}, ""},
		{"both copies at once", mutant{envBothAtOnce: true}, ""},
		{"slot not flushed", mutant{slotNotFlushed: true}, "kernel and initrd are of no whole system"},
		{"slot made the next one before it is written", mutant{slotTooEarly: true}, "kernel and initrd are of no whole system"},
		{"slot not marked bad", mutant{notMarkedBad: true}, "kernel and initrd are of no whole system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			campaign := story(t, c.how)
			for name, run := range map[string]func() (Result, error){"all": func() (Result, error) { return campaign.All(3) }, "300": func() (Result, error) { return campaign.Run(300) }} {
				res, err := run()
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %d bricks, %d torn slots tried, %d environments lost in %d cuts", name, res.Bricks, res.TornTried, res.EnvLost, res.Cuts)
				if res.Bricks+res.TornTried+res.EnvLost == 0 {
					t.Errorf("%s: nothing is noticed", name)
				}
				if c.wants != "" && !slices.ContainsFunc(res.Failures, func(f string) bool { return strings.Contains(f, c.wants) }) {
					t.Errorf("%s: no failure says %q:\n%s", name, c.wants, strings.Join(res.Failures, "\n"))
				}
			}
		})
	}
}

// TestScriptOnADiskWithACache: U-Boot has no flush. A cut between its two writes and the first flush of the kernel can cost both copies, and the defaults boot a whole slot
// all the same, unless the same update was cut before.
func TestScriptOnADiskWithACache(t *testing.T) {
	res, err := story(t, mutant{bootNotFlushed: true}).All(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d environments lost in %d cuts", res.EnvLost, res.Cuts)
	if res.Bricks > 0 || res.TornTried > 0 || res.EnvLost == 0 {
		t.Errorf("after %d cuts %d bricks, %d torn slots tried, %d environments lost:\n%s", res.Cuts, res.Bricks, res.TornTried, res.EnvLost, strings.Join(res.Failures, "\n"))
	}
}

// TestVerdicts: states that no writer of ours leaves.
func TestVerdicts(t *testing.T) {
	zero := func(b []byte) { clear(b) }
	flip := func(b []byte) { b[len(b)/2] ^= 1 }
	for _, c := range []struct {
		name   string
		damage func(d *small, disk []byte)
		brick  string
		slot   bootenv.Slot
	}{
		{"nothing", func(*small, []byte) {}, "", a},
		{"a bit of the root of A", func(d *small, disk []byte) { flip(disk[d.parts.Root[a].Start:][:rootLen]) }, "", b},
		{"a bit of the hash tree of A", func(d *small, disk []byte) { disk[d.parts.Root[a].Start+rootLen+verity.BlockSize+1] ^= 1 }, "", b},
		{"the roots of both", func(d *small, disk []byte) {
			flip(disk[d.parts.Root[a].Start:][:rootLen])
			zero(disk[d.parts.Root[b].Start:][:512])
		}, "no slot that the script tries is whole", ""},
		{"a bit of the kernel of A", func(d *small, disk []byte) { flip(disk[d.parts.Boot[a].Start:][:1024]) }, "slot A is booted, and its kernel", ""},
		{"a bit of the kernel of B", func(d *small, disk []byte) { flip(disk[d.parts.Boot[b].Start:][:1024]) }, "", a},
		{"the boot script", func(d *small, disk []byte) { disk[d.parts.Firmware.Start] ^= 1 }, "the boot script, is not as it was", ""},
		{"the primary partition table", func(d *small, disk []byte) { zero(disk[512:1024]) }, "", a},
		{"both partition tables", func(d *small, disk []byte) { zero(disk[512:1024]); disk[len(disk)-500] ^= 1 }, "its backup at the end of the disk is damaged", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newSmall(t, mutant{})
			after := bytes.Clone(d.before)
			c.damage(d, after)
			r := cutlog.NewRecorder(bytes.Clone(d.before))
			if _, err := r.WriteAt(after, 0); err != nil {
				t.Fatal(err)
			}
			log, err := r.Log()
			if err != nil {
				t.Fatal(err)
			}
			var v Verdict
			campaign := Campaign{Before: bytes.NewReader(d.before), Size: int64(len(after)), Log: log, Systems: d.list, Each: func(c Cut, _ *cutlog.State) error {
				v = c.Verdict
				return nil
			}}
			if _, err := campaign.run([]Cut{{Entry: 1, Mode: cutlog.All}}); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(v.Brick, c.brick) || (c.brick == "") != (v.Brick == "") || v.Slot != c.slot {
				t.Errorf("verdict %+v, want slot %q, brick %q", v, c.slot, c.brick)
			}
		})
	}
}

// TestSameSeedSameCuts: a failure can be looked at again.
func TestSameSeedSameCuts(t *testing.T) {
	campaign, ended := story(t, mutant{envBothAtOnce: true}), errors.New("ended")
	list := func(n int) (out []string) {
		campaign.Each = func(c Cut, s *cutlog.State) error {
			content := make([]byte, s.Size())
			if _, err := s.ReadAt(content, 0); err != nil {
				return err
			}
			if out = append(out, fmt.Sprintf("%v %+v %x", c, c.Verdict, sha256.Sum256(content))); len(out) == n {
				return ended
			}
			return nil
		}
		if _, err := campaign.Run(60); n < 60 && !errors.Is(err, ended) || n >= 60 && err != nil && !errors.Is(err, ended) {
			t.Fatal(err)
		}
		return out
	}
	if one, other := list(60), list(60); !slices.Equal(one, other) {
		t.Error("the same seed gives other cuts")
	}
	if got := list(3); len(got) != 3 {
		t.Errorf("the campaign went on after an error: %d", len(got))
	}
}
