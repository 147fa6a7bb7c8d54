package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board/bootenv"
	"github.com/skerry/skerry/board/gpt"
	"github.com/skerry/skerry/board/verity"
)

const rootHash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// fakeKernel notes what it is asked for. Mounts change nothing, but that a mount of /dev is a link to it.
type fakeKernel struct {
	t       *testing.T
	m       *Machine
	did     []string
	fsck    []int // exit statuses of e2fsck, one a run
	sectors map[string]uint64
	refuse  map[string]error // by what did would say
}

func (k *fakeKernel) note(format string, args ...any) error {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), k.m.Root, "/sysroot")
	k.did = append(k.did, line)
	for part, err := range k.refuse {
		if strings.Contains(line, part) {
			return err
		}
	}
	return nil
}

func (k *fakeKernel) Mount(source, target, fstype string, flags uintptr, data string) error {
	if flags&unix.MS_MOVE != 0 {
		return k.note("move to %s", target)
	}
	if fstype == "" {
		return k.note("bind %s", target)
	}
	return k.note("mount %s on %s: %s", fstype, target, data)
}

func (k *fakeKernel) Unmount(target string) error { return k.note("unmount %s", target) }

func (k *fakeKernel) Verity(name string, sectors uint64, table string) (string, error) {
	return "/dev/dm-0", k.note("verity %s %d %s", name, sectors, strings.Fields(table)[8])
}

func (k *fakeKernel) Run(program string, args ...string) (int, string, error) {
	err := k.note("run %s %s", filepath.Base(program), strings.Join(args, " "))
	status := 0
	if strings.HasSuffix(program, "e2fsck") && len(k.fsck) > 0 {
		status, k.fsck = k.fsck[0], k.fsck[1:]
	}
	return status, fmt.Sprintf("said %d", status), err
}

func (k *fakeKernel) Sectors(device string) (uint64, error) {
	return k.sectors[filepath.Base(device)], nil
}

func (k *fakeKernel) Resize(disk string, n int, first, sectors uint64) error {
	return k.note("resize %s%d from %d to %d", filepath.Base(disk), n, first, sectors)
}

func (k *fakeKernel) GrowFilesystem(_ string, size uint64) error { return k.note("grow to %d", size) }

func (k *fakeKernel) said(t *testing.T, want ...string) {
	t.Helper()
	all := strings.Join(k.did, "\n")
	for _, w := range want {
		if !strings.Contains(all, w) {
			t.Errorf("%q was not done, but\n%s", w, all)
		}
	}
}

// newGateway is a machine with a disk of two slots. data is what the data partition begins with.
func newGateway(t *testing.T, data []byte) (*Machine, *fakeKernel, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	console := &bytes.Buffer{}
	m := &Machine{Root: filepath.Join(dir, "sysroot"), Dev: filepath.Join(dir, "dev"), Sys: filepath.Join(dir, "sys"), Log: console}
	k := &fakeKernel{t: t, m: m, sectors: map[string]uint64{"vda": 8192, "vda3": 2048}, refuse: map[string]error{}}
	m.Kernel = k
	table := gpt.Table{Sectors: 8192}
	for i, name := range []string{"root-a", "root-b", "data"} {
		m.addPartition(t, name, i+1)
		first := uint64(2048 + i*2048)
		table.Partitions = append(table.Partitions, gpt.Partition{Name: name, Type: gpt.Linux, ID: gpt.GUID{byte(i)}, First: first, Last: first + 1023})
	}
	env, err := bootenv.Default().Encode(bootenv.Size)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"env-a", "env-b"} {
		m.addPartition(t, name, i+8)
		write(t, m.dev(fmt.Sprintf("vda%d", i+8)), string(env))
	}
	disk := append(table.Primary(), make([]byte, 16<<20)...)
	write(t, filepath.Join(m.Dev, "vda"), string(disk))
	root := make([]byte, 2*verity.BlockSize)
	copy(root, "hsqs")
	root[41] = 0x20
	tree, _, err := verity.Tree(bytes.NewReader(root), verity.Superblock{Blocks: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, dev := range []string{"vda1", "vda2"} {
		write(t, filepath.Join(m.Dev, dev), string(append(bytes.Clone(root), tree...)))
	}
	write(t, filepath.Join(m.Dev, "vda3"), string(append(data, make([]byte, 8192)...)))
	for _, d := range []string{"etc", "var/lib/skerry"} {
		if err := os.MkdirAll(filepath.Join(m.Root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m, k, console
}

// addPartition has the kernel find a partition.
func (m *Machine) addPartition(t *testing.T, name string, number int) {
	t.Helper()
	dev := fmt.Sprintf("vda%d", number)
	at := filepath.Join(m.Sys, "devices/vda", dev)
	write(t, filepath.Join(at, "uevent"), fmt.Sprintf("MAJOR=254\nDEVNAME=%s\nDEVTYPE=partition\nPARTN=%d\nPARTNAME=%s\n", dev, number, name))
	if err := os.MkdirAll(filepath.Join(m.Sys, "class/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at, filepath.Join(m.Sys, "class/block", dev)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ext4Head() []byte {
	b := make([]byte, 4096)
	b[1080], b[1081] = 0x53, 0xef
	return b
}

func TestFirstStart(t *testing.T) {
	m, k, console := newGateway(t, []byte(EmptyData))
	k.sectors["vda"] = 32768
	if err := Boot(m, CommandLine{Slot: "B", RootHash: rootHash}); err != nil {
		t.Fatal(err)
	}
	k.said(t, "verity root 16 "+rootHash, "mount squashfs on /sysroot:", "resize vda3 from 6144 to 24576", "run mke2fs", "/dev/vda3\nmount ext4 on /sysroot/var/lib/skerry", "grow to 1048576",
		"bind /sysroot/var/lib/containerd", "mount overlay on /sysroot/etc")
	if s := console.String(); !strings.Contains(s, "first start") || strings.Contains(s, "REPAIR") {
		t.Errorf("the console says %q", s)
	}
	head := make([]byte, gpt.HeadSectors*gpt.Sector)
	f, err := os.Open(filepath.Join(m.Dev, "vda"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if table, err := gpt.Parse(head); err != nil || table.Sectors != 32768 {
		t.Errorf("the table on the disk is for %d sectors, %v", table.Sectors, err)
	}
	id, err := os.ReadFile(filepath.Join(m.Root, "var/lib/skerry/system/etc/machine-id"))
	if err != nil || len(id) != 33 {
		t.Errorf("machine-id is %q, %v", id, err)
	}
}

// TestDataPartition: what is wrong with the data is mended with as little loss as can be, and told. It is given up only if it is proven lost.
func TestDataPartition(t *testing.T) {
	none := make([]byte, 4096)
	for name, tc := range map[string]struct {
		head  []byte
		fsck  []int
		runs  int // of e2fsck
		made  bool
		fails string
	}{
		"clean":             {ext4Head(), []int{0}, 1, false, ""},
		"small mends":       {ext4Head(), []int{1}, 1, false, ""},
		"large mends":       {ext4Head(), []int{4, 1}, 2, false, ""},
		"hopeless":          {ext4Head(), []int{4, 4}, 2, true, ""},
		"partly mended":     {ext4Head(), []int{4, 5}, 2, true, ""},
		"gives up":          {ext4Head(), []int{4, 12}, 2, false, "status 12"},
		"no memory":         {ext4Head(), []int{8, 8}, 2, false, "status 8"},
		"called wrongly":    {ext4Head(), []int{16, 16}, 2, false, "status 16"},
		"interrupted":       {ext4Head(), []int{4, 36}, 2, false, "status 36"},
		"not loaded":        {ext4Head(), []int{128, 128}, 2, false, "status 128"},
		"killed":            {ext4Head(), []int{-1, -1}, 2, false, "status -1"},
		"superblock mended": {none, []int{8, 1}, 2, false, ""},
		"superblock lost":   {none, []int{8, 8}, 2, true, ""},
		"lost and killed":   {none, []int{8, -1}, 2, false, "status -1"},
	} {
		m, k, console := newGateway(t, tc.head)
		k.fsck = tc.fsck
		err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash})
		if tc.fails == "" && err != nil || tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails) || !strings.Contains(err.Error(), "left as it is")) {
			t.Errorf("%s: %v; want %q", name, err, tc.fails)
		}
		all := strings.Join(k.did, "\n")
		if n := strings.Count(all, "run e2fsck"); n != tc.runs {
			t.Errorf("%s: e2fsck ran %d times, want %d", name, n, tc.runs)
		}
		log, _ := os.ReadFile(filepath.Join(m.Root, "var/lib/skerry", recoveryLog))
		if made := strings.Contains(all, "run mke2fs"); made != tc.made || strings.Contains(console.String(), "BEYOND REPAIR") != tc.made || strings.Contains(string(log), "e2fsck -fy") != tc.made {
			t.Errorf("%s: made anew: %v, want %v; log %q, console %q", name, made, tc.made, log, console)
		}
	}
}

// TestDataIsLeft: a kernel without ext4, a root without e2fsck, and a superblock that has a backup say nothing against the data.
func TestDataIsLeft(t *testing.T) {
	for name, spoil := range map[string]func(*Machine, *fakeKernel){
		"not mounted": func(_ *Machine, k *fakeKernel) { k.refuse["mount ext4"] = unix.EOPNOTSUPP },
		"no e2fsck":   func(_ *Machine, k *fakeKernel) { k.refuse["run e2fsck"] = os.ErrNotExist },
		"a backup": func(m *Machine, k *fakeKernel) {
			k.fsck = []int{8, 8}
			f, err := os.OpenFile(filepath.Join(m.Dev, "vda3"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(make([]byte, 2048), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{0x53, 0xef}, 3*groupSize+56); err != nil {
				t.Fatal(err)
			}
		},
	} {
		m, k, _ := newGateway(t, ext4Head())
		spoil(m, k)
		if err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash}); err == nil || !strings.Contains(err.Error(), "left as it is") || strings.Contains(strings.Join(k.did, "\n"), "mke2fs") {
			t.Errorf("%s: %v; %s", name, err, k.did)
		}
	}
}

// TestTrialGivesNothingUp: only the confirmed system makes damaged data anew, and any makes what was never made.
func TestTrialGivesNothingUp(t *testing.T) {
	for name, tc := range map[string]struct {
		data  []byte
		env   func(*testing.T, *Machine)
		made  bool
		fails string
	}{
		"confirmed":   {ext4Head(), confirmed(bootenv.B), true, ""},
		"first start": {[]byte(EmptyData), confirmed(bootenv.A), true, ""},
		"on trial":    {ext4Head(), confirmed(bootenv.A), false, "only that of slot A"},
		"damaged":     {ext4Head(), func(t *testing.T, m *Machine) { write(t, m.dev("vda8"), "x"); write(t, m.dev("vda9"), "x") }, false, "cannot be known"},
		"not there": {ext4Head(), func(t *testing.T, m *Machine) {
			if err := os.Remove(filepath.Join(m.Sys, "class/block/vda9")); err != nil {
				t.Fatal(err)
			}
		}, false, "no partition env-b"},
	} {
		m, k, _ := newGateway(t, tc.data)
		tc.env(t, m)
		k.fsck = []int{4, 4}
		err := Boot(m, CommandLine{Slot: "B", RootHash: rootHash})
		if tc.fails == "" && err != nil || tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)) {
			t.Errorf("%s: %v; want %q", name, err, tc.fails)
		}
		if made := strings.Contains(strings.Join(k.did, "\n"), "run mke2fs"); made != tc.made {
			t.Errorf("%s: made anew: %v, want %v", name, made, tc.made)
		}
	}
}

func confirmed(s bootenv.Slot) func(*testing.T, *Machine) {
	return func(t *testing.T, m *Machine) {
		t.Helper()
		d, err := bootenv.Open([2]string{m.dev("vda8"), m.dev("vda9")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Update(func(e *bootenv.Env) error { e.Confirm(s); return nil })
		if err := errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlotsThatCannotBoot(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*Machine, *fakeKernel)
		want  string
	}{
		"altered root": {func(_ *Machine, k *fakeKernel) { k.refuse["mount squashfs"] = unix.EIO }, ErrRoot.Error()},
		"no squashfs":  {func(m *Machine, _ *fakeKernel) { write(t, filepath.Join(m.Dev, "vda1"), strings.Repeat("x", 20000)) }, "root-a (vda1): there is no squashfs"},
		"no tree": {func(m *Machine, _ *fakeKernel) {
			write(t, filepath.Join(m.Dev, "vda1"), "hsqs"+strings.Repeat("\x00", 37)+"\x20"+strings.Repeat("\x00", 20000))
		}, "no dm-verity superblock"},
		"no device mapper": {func(_ *Machine, k *fakeKernel) { k.refuse["verity"] = os.ErrNotExist }, "through dm-verity"},
		"worn out": {func(m *Machine, k *fakeKernel) {
			write(t, m.dev("vda3"), EmptyData+strings.Repeat("\x00", 8192))
			k.refuse["mount ext4"] = unix.EROFS
		}, "worn out or write-protected"},
	} {
		m, k, _ := newGateway(t, ext4Head())
		tc.spoil(m, k)
		if err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
	}
}

// TestOneDiskOnly: a stick with partitions of the same names does not give the data.
func TestOneDiskOnly(t *testing.T) {
	all := []partition{{"data", "sda1", "sda", 1}, {"root-a", "vda6", "vda", 6}, {"data", "vda8", "vda", 8}}
	root, _ := find(all, "root-a", "")
	if data, ok := find(all, "data", root.disk); !ok || data.device != "vda8" {
		t.Errorf("the data is on %+v", data)
	}
}

func TestFactoryReset(t *testing.T) {
	for what, tc := range map[string]struct{ stays, goes []string }{
		ResetKeepIdentity: {[]string{"identity/current", "system/etc/skerry/skerryd.yaml", "system/etc/skerry/board.d/x.yaml", "system/etc/systemd/timesyncd.conf.d/provisioned.conf", "system/etc/machine-id"}, []string{"store/x", "system/containerd/y", ResetRequest}},
		"nonsense":        {[]string{"identity/current", "store/x"}, []string{ResetRequest}},
		ResetAll:          {nil, nil}, // mke2fs does it
	} {
		m, k, console := newGateway(t, ext4Head())
		data := filepath.Join(m.Root, dataMount)
		for _, f := range []string{"identity/current", "system/etc/skerry/skerryd.yaml", "system/etc/skerry/board.d/x.yaml", "system/etc/systemd/timesyncd.conf.d/provisioned.conf", "store/x", "system/containerd/y"} {
			write(t, filepath.Join(data, f), "x")
		}
		write(t, filepath.Join(data, "system/etc/machine-id"), strings.Repeat("a", 32)+"\n")
		write(t, filepath.Join(data, ResetRequest), what+"\n")
		if err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash}); err != nil {
			t.Fatal(err)
		}
		for _, f := range tc.stays {
			if !exists(filepath.Join(data, f)) {
				t.Errorf("%s: %s is gone", what, f)
			}
		}
		for _, f := range tc.goes {
			if exists(filepath.Join(data, f)) {
				t.Errorf("%s: %s is still there", what, f)
			}
		}
		all := strings.Join(k.did, "\n")
		if made := strings.Contains(all, "unmount /sysroot/var/lib/skerry\nrun mke2fs"); made != (what == ResetAll) {
			t.Errorf("%s: made anew: %v:\n%s", what, made, all)
		}
		if !strings.Contains(console.String(), "factory reset") {
			t.Errorf("%s: the console says %q", what, console)
		}
	}
}

// TestEtc: only the machine's own state stays.
func TestEtc(t *testing.T) {
	m, _, _ := newGateway(t, ext4Head())
	upper := filepath.Join(m.Root, dataMount, "system/etc")
	for _, f := range []string{"passwd", "systemd/system/evil.service", "systemd/network/50-lan.network", "hostname", "skerry/skerryd.yaml", "machine-id"} {
		write(t, filepath.Join(upper, f), "damaged")
	}
	if err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash}); err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]bool{"passwd": false, "systemd/system": false, "systemd/network/50-lan.network": true, "hostname": true, "skerry/skerryd.yaml": true} {
		if got := exists(filepath.Join(upper, f)); got != want {
			t.Errorf("%s stays: %v, want %v", f, got, want)
		}
	}
	if id, err := os.ReadFile(filepath.Join(upper, "machine-id")); err != nil || len(id) != 33 {
		t.Errorf("the damaged machine-id became %q, %v", id, err)
	}
}

func TestCommandLine(t *testing.T) {
	c, err := ParseCommandLine("console=ttyAMA0,115200 skerry.slot=B quiet skerry.roothash=" + rootHash + "\n")
	if err != nil || c != (CommandLine{Slot: "B", RootHash: rootHash}) || c.root() != "root-b" {
		t.Errorf("%+v, %v", c, err)
	}
	for line, want := range map[string]string{
		"": "names no slot", "skerry.slot=C": "has to be A or B", "skerry.slot=A": "names no root of slot A", "skerry.slot=A skerry.roothash=12": "64 hexadecimal",
	} {
		if _, err := ParseCommandLine(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestGrowthThatFails: a disk whose table is not ours is used as it is.
func TestGrowthThatFails(t *testing.T) {
	m, k, console := newGateway(t, ext4Head())
	k.sectors["vda"] = 32768
	k.refuse["resize"] = errors.New("device busy")
	if err := Boot(m, CommandLine{Slot: "A", RootHash: rootHash}); err != nil {
		t.Fatal(err)
	}
	if s := console.String(); !strings.Contains(s, "left as large as it is") || !strings.Contains(s, "device busy") {
		t.Errorf("the console says %q", s)
	}
}

func TestDeviceMapperRequest(t *testing.T) {
	b := dmRequest("root", dmReadOnly, make([]byte, 48))
	if len(b) != 360 || string(b[48:52]) != "root" || b[28] != 1 {
		t.Errorf("% x", b)
	}
}
