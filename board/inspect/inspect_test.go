package inspect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/skerry/skerry/board"
)

const described = `
name: acme
match: {deviceTree: ["acme,gateway"]}
ARCHITECTURE
memory: {installed: 128Mi, budget: 64Mi}
storage:
  disk: /dev/vda
  partitions:
    - {name: env-a, filesystem: raw, size: 64Ki}
    - {name: env-b, filesystem: raw, size: 64Ki}
    - {name: boot-a, filesystem: ext4, size: 1Mi}
    - {name: boot-b, filesystem: ext4, size: 1Mi}
    - {name: root-a, filesystem: squashfs, size: 1Mi}
    - {name: root-b, filesystem: squashfs, size: 1Mi}
    - {name: data, filesystem: ext4, mount: /data}
  slots: [{name: A, boot: boot-a, root: root-a}, {name: B, boot: boot-b, root: root-b}]
  environment: [env-a, env-b]
  data: data
serial:
  - {name: rs485-1, devices: [/dev/ttyRS485-0, /dev/ttyRS485], kind: rs485, mode: kernel}
  - {name: usb-1, devices: [/dev/ttyUSB7], kind: rs232, optional: true, note: an adapter}
can: [{name: can-1, interface: can0}]
gpio: [{name: relay, chip: 9030000.pl061, line: 3, direction: out}]
leds: [{name: run, devices: ["acme:run", led0]}]
watchdog: {device: /dev/watchdog, identity: ACME wdt, timeout: 30s}
rtc: {device: /dev/rtc0, battery: true}
tpm: {device: /dev/tpmrm0}
network: [{name: lan-1, interface: eth0, kind: ethernet}]
console: {device: ttyS0, baud: 115200}
`

// machine is a made-up one that is just as described.
func machine() map[string]string {
	files := map[string]string{
		"proc/device-tree/compatible": "acme,gateway\x00", "proc/meminfo": "MemTotal: 113836 kB\n", "proc/self/mounts": "/dev/vda7 /data ext4 rw 0 0\n",
		"proc/consoles": "ttyS0                -W- (EC    a)    4:64\n",
		"dev/vda":       "", "sys/class/block/vda/size": "2097152\n",
		"dev/ttyS1": "", "sys/class/tty/ttyS1/x": "", "sys/class/tty/ttyS0/x": "",
		"sys/class/tty/ttyS2/device/driver": "", "sys/class/tty/ttyS2/type": "4", "sys/class/tty/ttyS3/device/driver": "", "sys/class/tty/ttyS3/type": "0",
		"sys/class/net/can0/type": "280\n", "sys/class/net/can0/operstate": "down\n", "sys/class/net/eth0/address": "02:00:00:00:00:01\n", "sys/class/net/eth0/operstate": "up\n",
		"sys/class/leds/led0/brightness": "0",
		"dev/watchdog":                   "", "sys/class/watchdog/watchdog0/identity": "ACME wdt\n", "sys/class/watchdog/watchdog0/timeout": "60\n", "sys/class/watchdog/watchdog0/state": "inactive\n",
		"sys/class/watchdog/watchdog0/max_timeout": "128\n",
		"dev/rtc0": "", "sys/class/rtc/rtc0/since_epoch": "1790000000\n", "sys/class/rtc/rtc0/name": "rtc-acme\n",
		"dev/tpmrm0": "", "sys/class/tpm/tpm0/tpm_version_major": "2\n",
	}
	for i, name := range []string{"env-a", "env-b", "boot-a", "boot-b", "root-a", "root-b", "data"} {
		files["sys/class/block/vda"+string(rune('1'+i))+"/uevent"] = "DEVTYPE=partition\nPARTNAME=" + name + "\n"
	}
	return files
}

func run(t *testing.T, files map[string]string, rs485 func(string) (bool, error)) Report {
	t.Helper()
	root := t.TempDir()
	for p, content := range files {
		full := filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("ttyS1", filepath.Join(root, "dev/ttyRS485")); err != nil {
		t.Fatal(err)
	}
	arch := "architectures: [" + runtime.GOARCH + "]"
	if runtime.GOARCH == "arm" {
		arch += "\ngoarm: 7"
	}
	d, err := board.Parse("acme.yaml", []byte(strings.Replace(described, "ARCHITECTURE", arch, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if rs485 == nil {
		rs485 = func(string) (bool, error) { return true, nil }
	}
	return Check(d, System{Root: root, RS485: rs485, Chips: func() ([]Chip, error) { return []Chip{{"gpiochip0", "9030000.pl061", 8}}, nil }})
}

func row(r Report, part, name string) Row {
	for _, x := range r.Rows {
		if x.Part == part && x.Name == name {
			return x
		}
	}
	return Row{}
}

func TestAsDescribed(t *testing.T) {
	r := run(t, machine(), nil)
	for _, x := range r.Rows {
		want := OK
		switch {
		case x.Part == "serial" && x.Name == "usb-1":
			want = Absent
		case x.Name == "-":
			want = Extra
		}
		if x.State != want {
			t.Errorf("%+v, want %s", x, want)
		}
	}
	if !r.Good() {
		t.Error("the report is not good")
	}
	for _, tc := range []struct{ part, name, want string }{
		{"serial", "rs485-1", "/dev/ttyRS485 (ttyS1), RS-485 by the kernel (on)"}, {"serial", "-", "ttyS2"}, {"watchdog", "watchdog0", "ACME wdt, now 60 s, inactive"},
		{"slot", "B", "vda4 and vda6"}, {"gpio", "relay", "gpiochip0"}, {"storage", "disk", "1.1 GB"}, {"rtc", "rtc0", "rtc-acme 2026-"},
	} {
		if x := row(r, tc.part, tc.name); !strings.Contains(x.Found, tc.want) {
			t.Errorf("%s %s: %q, want %q in it", tc.part, tc.name, x.Found, tc.want)
		}
	}
	if x := row(r, "serial", "-"); strings.Contains(x.Found, "ttyS3") || strings.Contains(x.Found, "ttyS1") {
		t.Errorf("ports without a chip, or described ones, are extra: %q", x.Found)
	}
}

// TestDifferences changes one thing of the machine at a time.
func TestDifferences(t *testing.T) {
	for _, tc := range []struct {
		file, content string // "" takes the file away
		part, name    string
		state         State
		want          string
	}{
		{"proc/device-tree/compatible", "other,thing\x00", "machine", "identity", Wrong, "other,thing"},
		{"proc/meminfo", "MemTotal: 65536 kB\n", "memory", "installed", Wrong, "64 MiB"},
		{"proc/meminfo", "", "memory", "installed", Unknown, "meminfo"},
		{"dev/vda", "", "storage", "disk", Wrong, "/dev/vda"},
		{"sys/class/block/vda4/uevent", "", "storage", "boot-b", Wrong, "no partition"},
		{"sys/class/block/vda4/uevent", "", "slot", "B", Wrong, "incomplete"},
		{"proc/self/mounts", "tmpfs /data2 tmpfs rw 0 0\n", "storage", "data", Wrong, "not mounted"},
		{"dev/ttyS1", "", "serial", "rs485-1", Wrong, "/dev/ttyRS485-0, /dev/ttyRS485 is not there"},
		{"sys/class/tty/ttyS1/x", "", "serial", "rs485-1", Wrong, "no serial port"},
		{"proc/consoles", "ttyS1 -W- (EC a) 4:65\n", "serial", "rs485-1", Wrong, "console"},
		{"proc/consoles", "tty0 -WU (E p ) 4:7\n", "console", "ttyS0", Absent, "console=ttyS0,115200"},
		{"sys/class/tty/ttyS0/x", "", "console", "ttyS0", Wrong, "not there"},
		{"sys/class/net/can0/type", "1\n", "can", "can-1", Wrong, "no CAN"},
		{"sys/class/leds/led0/brightness", "", "led", "run", Wrong, "acme:run, led0"},
		{"dev/watchdog", "", "watchdog", "watchdog", Wrong, "/dev/watchdog"},
		{"sys/class/watchdog/watchdog0/identity", "Software Watchdog\n", "watchdog", "watchdog0", Wrong, "Software Watchdog"},
		{"sys/class/watchdog/watchdog0/identity", "", "watchdog", "watchdog0", Unknown, "does not tell"},
		{"sys/class/watchdog/watchdog0/max_timeout", "16\n", "watchdog", "watchdog0", Wrong, "at most 16s"},
		{"sys/class/rtc/rtc0/since_epoch", "1000\n", "rtc", "rtc0", Wrong, "1970"},
		{"sys/class/rtc/rtc0/since_epoch", "", "rtc", "rtc0", Wrong, "cannot be read"},
		{"dev/rtc0", "", "rtc", "rtc0", Wrong, "/dev/rtc0"},
		{"sys/class/tpm/tpm0/tpm_version_major", "1\n", "tpm", "tpmrm0", Wrong, "TPM 1"},
		{"sys/class/tpm/tpm0/tpm_version_major", "", "tpm", "tpmrm0", Unknown, "version"},
		{"dev/tpmrm0", "", "tpm", "tpmrm0", Wrong, "/dev/tpmrm0"},
	} {
		files := machine()
		if files[tc.file] = tc.content; tc.content == "" {
			delete(files, tc.file)
		}
		r := run(t, files, nil)
		x := row(r, tc.part, tc.name)
		if x.State != tc.state || !strings.Contains(x.Found+x.Do, tc.want) {
			t.Errorf("%s %q: %+v, want %s and %q", tc.file, tc.content, x, tc.state, tc.want)
		}
		if wrong := tc.state == Wrong || tc.state == Unknown; wrong == r.Good() {
			t.Errorf("%s %q: good is %v", tc.file, tc.content, r.Good())
		} else if tc.state == Wrong && x.Do == "" {
			t.Errorf("%s %q: no word on what to do", tc.file, tc.content)
		}
	}
}

func TestRS485(t *testing.T) {
	for _, tc := range []struct {
		enabled bool
		err     error
		state   State
		want    string
	}{
		{false, nil, OK, "off until the agent opens it"}, {false, errNoRS485, Wrong, "set mode to rts"}, {false, fs.ErrPermission, Unknown, "as root"},
	} {
		x := row(run(t, machine(), func(path string) (bool, error) {
			if !strings.HasSuffix(path, "/dev/ttyRS485") {
				t.Errorf("port %s was asked", path)
			}
			return tc.enabled, tc.err
		}), "serial", "rs485-1")
		if x.State != tc.state || !strings.Contains(x.Found+x.Do, tc.want) {
			t.Errorf("%v: %+v", tc.err, x)
		}
	}
}

// TestIoctls: what is no serial port and no GPIO controller is told as such.
func TestIoctls(t *testing.T) {
	if _, err := kernelRS485("/dev/null"); !errors.Is(err, errNoRS485) {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := kernelRS485(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	dir := t.TempDir()
	if chips, err := gpioChips(dir); err != nil || len(chips) != 0 {
		t.Errorf("no chips: %v, %v", chips, err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(dir, "gpiochip0")); err != nil {
		t.Fatal(err)
	}
	if _, err := gpioChips(dir); err == nil || !strings.Contains(err.Error(), "gpiochip0") {
		t.Errorf("a chip that is none: %v", err)
	}
}
