package image

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/board"
	"github.com/skerry/skerry/board/gpt"
)

func archive(t *testing.T, entries ...*tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func everything(string) bool { return true }

// TestTree: files of /bin and /lib go to /usr, hard links are files, owners stay, and the archive has an order and one time.
func TestTree(t *testing.T) {
	tree := NewTree()
	if err := tree.AddTar(archive(t,
		&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, &tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		&tar.Header{Name: "./bin/sh", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 3, Gid: 4}, &tar.Header{Name: "./lib/again", Typeflag: tar.TypeLink, Linkname: "./bin/sh", Mode: 0o755},
		&tar.Header{Name: "./usr/share/doc/x", Typeflag: tar.TypeReg}, &tar.Header{Name: "./etc/link", Typeflag: tar.TypeSymlink, Linkname: "../x"},
	), keep); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tree.WriteTar(&out, time.Unix(1e9, 0), "etc/link"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1e9 {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		if h.Name == "usr/bin/sh" && (h.Mode != 0o4755 || h.Uid != 3 || h.Gid != 4) {
			t.Errorf("%s is %o of %d:%d", h.Name, h.Mode, h.Uid, h.Gid)
		}
		if h.Name == "usr/lib/again" && (h.Typeflag != tar.TypeReg || h.Size != int64(len("./bin/sh"))) {
			t.Errorf("the hard link is %+v", h)
		}
		got = append(got, h.Name)
	}
	if want := []string{"bin", "etc/", "lib", "sbin", "usr/", "usr/bin/", "usr/bin/sh", "usr/lib/", "usr/lib/again", "etc/link"}; !slices.Equal(got, want) {
		t.Errorf("the archive has %v, want %v", got, want)
	}
	for what, h := range map[string]*tar.Header{"which is not there": {Name: "a", Typeflag: tar.TypeLink, Linkname: "b"}, "of kind": {Name: "a", Typeflag: tar.TypeFifo}} {
		if err := NewTree().AddTar(archive(t, h), everything); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLock(t *testing.T) {
	want := []Package{{"ab", "1:2.3-4+b1", "armhf", strings.Repeat("ab", 32)}, {"libb++6", "0~1", "all", strings.Repeat("cd", 32)}}
	var b bytes.Buffer
	if err := WriteLock(&b, []Package{want[1], want[0]}); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLock(&b)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if f := want[0].File(); f != "ab_1%3a2.3-4+b1_armhf.deb" {
		t.Errorf("file %s", f)
	}
	hash := strings.Repeat("0", 64)
	for text, says := range map[string]string{
		"": "names no package", "ab 1 armhf\n": "line 1", "ab 1 sparc " + hash: "line 1", "../ab 1 armhf " + hash: "line 1", "ab 1 all " + hash + "\nab 2 all " + hash: "second time",
		"ab 1/../ all " + hash: "line 1",
	} {
		if _, err := ReadLock(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add("ab 1 all " + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadLock(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range list {
			if strings.ContainsAny(p.File(), "/ \n") {
				t.Errorf("%q gives the file %q", text, p.File())
			}
		}
	})
}

func TestAccounts(t *testing.T) {
	tree := NewTree()
	tree.File("usr/share/base-passwd/passwd.master", 0o644, []byte("root:*:0:0:root:/root:/bin/sh\n"))
	tree.File("usr/share/base-passwd/group.master", 0o644, []byte("root:*:0:\ntty:*:5:\n"))
	tree.File("usr/lib/sysusers.d/a.conf", 0o644, []byte("# text\nu net 998 \"Network Things\" /run\nu! bus - \"\"\ng render -\nu late :tty -\nm net tty\n"))
	a, err := readAccounts(tree)
	if err == nil {
		a.write(tree)
	}
	passwd, _ := tree.Read("etc/passwd")
	groups, _ := tree.Read("etc/group")
	if want := "root:x:0:0:root:/root:/bin/sh\nnet:x:998:998:Network Things:/run:/usr/sbin/nologin\nbus:x:100:100::/:/usr/sbin/nologin\nlate:x:5:5::/:/usr/sbin/nologin\n"; err != nil || string(passwd) != want {
		t.Errorf("%v\n%s", err, passwd)
	}
	if want := "root:x:0:\ntty:x:5:net\nnet:x:998:\nbus:x:100:\nrender:x:101:\n"; string(groups) != want {
		t.Errorf("%s", groups)
	}
	if shadow, _ := tree.Read("etc/shadow"); strings.Count(string(shadow), ":!*:") != 4 {
		t.Errorf("somebody can log in:\n%s", shadow)
	}
	tree.File("usr/lib/sysusers.d/b.conf", 0o644, []byte("x y z\n"))
	if _, err := readAccounts(tree); err == nil || !strings.Contains(err.Error(), "b.conf") {
		t.Errorf("%v", err)
	}
}

// TestCheck: boards whose boot chain nobody has proven are refused with the reason.
func TestCheck(t *testing.T) {
	lib := board.Library{}
	for _, name := range lib.Names() {
		d, err := lib.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		err = Check(d)
		if proven := strings.HasPrefix(name, "qemu-"); (err == nil) != proven || err != nil && !(errors.Is(err, ErrNotProven) && strings.Contains(err.Error(), "boot chain")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLayout: partitions lie one behind the other at whole MiB, and the table can be read.
func TestLayout(t *testing.T) {
	d, err := board.Library{}.Load("qemu-armv7")
	if err != nil {
		t.Fatal(err)
	}
	table := layout(d.Storage, d.Name)
	parsed, err := gpt.Parse(table.Primary())
	if err != nil || len(parsed.Partitions) != len(d.Storage.Partitions) {
		t.Fatalf("%+v, %v", parsed, err)
	}
	end := uint64(0)
	for i, p := range parsed.Partitions {
		want := d.Storage.Partitions[i]
		if p.Name != want.Name || p.First <= end || p.First%2048 != 0 || want.Size != 0 && (p.Last-p.First+1)*gpt.Sector != uint64(want.Size) {
			t.Errorf("%+v, want %+v after %d", p, want, end)
		}
		if (p.Attributes == gpt.Bootable) != (p.Name == FirmwarePartition) {
			t.Errorf("%s has the attributes %x", p.Name, p.Attributes)
		}
		end = p.Last
	}
}

func TestDiskRefusesWhatIsTooLarge(t *testing.T) {
	d, err := board.Library{}.Load("qemu-armv7")
	if err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 5<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	err = writeDisk(filepath.Join(t.TempDir(), "disk"), layout(d.Storage, d.Name), d.Storage, map[string]string{FirmwarePartition: large})
	if err == nil || !strings.Contains(err.Error(), "there is room for 4194304") {
		t.Errorf("%v", err)
	}
}

// TestKernelModules: what a module needs is loaded before it, once.
func TestKernelModules(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "lib/modules/6.1")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for f, text := range map[string]string{
		"modules.dep":     "kernel/fs/ext4.ko: kernel/fs/mbcache.ko kernel/lib/crc16.ko\nkernel/fs/mbcache.ko:\nkernel/lib/crc16.ko:\nkernel/net/a/x-y.ko: kernel/lib/crc16.ko\nkernel/net/a/z.ko:\n",
		"modules.builtin": "kernel/fs/proc/proc.ko\n",
	} {
		if err := os.WriteFile(filepath.Join(at, f), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := &kernel{root: dir, version: "6.1", deps: map[string][]string{}, byName: map[string]string{}, builtin: map[string]bool{}}
	if err := k.read(); err != nil {
		t.Fatal(err)
	}
	got, err := k.pick([]string{"ext4", "proc", "nothing?", "net/a/", "x_y"})
	if want := []string{"kernel/lib/crc16.ko", "kernel/fs/mbcache.ko", "kernel/fs/ext4.ko", "kernel/net/a/x-y.ko", "kernel/net/a/z.ko"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	for _, w := range []string{"nothing", "net/b/"} {
		if _, err := k.pick([]string{w}); err == nil {
			t.Errorf("%s was found", w)
		}
	}
}

func TestCPIO(t *testing.T) {
	var w cpioWriter
	w.add("init", 0o100755, []byte("hello"), 0)
	b := w.close()
	if len(b)%4 != 0 || !bytes.HasPrefix(b, []byte("07070100000001000081ed")) || !bytes.Contains(b, []byte("init\x00\x00hello\x00\x00\x00070701")) || !bytes.Contains(b, []byte("TRAILER!!!\x00")) {
		t.Errorf("%q", b)
	}
}

func TestMissingLibraries(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	tree := NewTree()
	tree.File("bin/x", 0o755, b)
	tree.File("bin/damaged", 0o755, []byte("\x7fELF"))
	if got := missingLibraries(tree); len(got) == 0 || !strings.HasPrefix(got[0], "usr/bin/damaged: ") {
		t.Errorf("%v", got)
	}
}

// TestPapers: the manifest's signature is good for what is in it and nothing else, and the SBOM names packages and modules.
func TestPapers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root")
	if err := os.WriteFile(file, []byte("root"), 0o644); err != nil {
		t.Fatal(err)
	}
	key, err := DevelopmentKey(filepath.Join(dir, "keys/dev.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := DevelopmentKey(filepath.Join(dir, "keys/dev.pem")); err != nil || !again.Equal(key) {
		t.Errorf("the development key changed: %v", err)
	}
	path := filepath.Join(dir, "manifest.json")
	if err := writeManifest(path, Manifest{Board: "b", Version: "1", Time: time.Unix(1e9, 0).UTC()}, []string{file}, key); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := os.ReadFile(path + SignatureSuffix)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), text, signature) || !strings.Contains(string(text), "4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2") {
		t.Errorf("the manifest\n%s\nis not what is signed", text)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b, err := sbom("b", "1", time.Unix(1e9, 0), []Package{{"libc6", "2.36", "armhf", strings.Repeat("0", 64)}}, self)
		if err != nil {
			t.Fatal(err)
		}
		var d spdxDocument
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"pkg:deb/debian/libc6@2.36?arch=armhf", "pkg:golang/stdlib@"} {
			if !slices.ContainsFunc(d.Packages, func(p spdxPackage) bool { return len(p.Refs) == 1 && strings.HasPrefix(p.Refs[0].Locator, want) }) {
				t.Errorf("the SBOM does not name %s:\n%s", want, b)
			}
		}
	}
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SigningKey(file); err == nil || !strings.Contains(err.Error(), "openssl genpkey") {
		t.Errorf("%v", err)
	}
}

// TestAgentUnits: images have each unit that packages have, enabled as it wants to be.
func TestAgentUnits(t *testing.T) {
	units, err := filepath.Glob("../packages/systemd/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, path := range units {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		if by := enabled()[name]; by == "" || !strings.Contains(string(text), "\nWantedBy="+by+"\n") || !slices.Contains(AgentUnits(), name) {
			t.Errorf("%s is enabled for %q; the images have %q", name, by, AgentUnits())
		}
	}
}

// TestTrialUnit: without this unit nobody leaves a new system whose agent does not come up.
func TestTrialUnit(t *testing.T) {
	const unit = "skerry-trial.service"
	if by := enabled()[unit]; by != "multi-user.target" {
		t.Errorf("%s is wanted by %q", unit, by)
	}
	b, err := files.ReadFile("files/usr/lib/systemd/system/" + unit)
	if err != nil || !strings.Contains(string(b), "ExecStart=/usr/bin/skerryd boot-deadline\n") || strings.Contains(string(b), "Condition") {
		t.Errorf("%v, %s", err, b)
	}
}
