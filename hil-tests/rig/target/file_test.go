package target_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/target"
)

const benchFile = `
name: bench-1
board: raspberrypi
adapter: bench
console: {device: /dev/serial/by-id/usb-FTDI, user: root, password: secret}
power:
  on: [usbrelay, "1=1"]
  off: [usbrelay, "1=0"]
  pause: 500ms
flash: [flash.sh, "{image}"]
exec: [ssh, root@192.168.7.20, "{command}"]
network: {here: 192.168.7.1, gateway: 192.168.7.20}
simulators:
  - {name: line-1, kind: modbus-rtu, port: rs485-1, adapter: /dev/ttyUSB1}
  - {name: press, kind: opcua}
`

func TestParse(t *testing.T) {
	got, err := target.Parse("bench.yaml", []byte(benchFile))
	if err != nil {
		t.Fatal(err)
	}
	want := &target.Rig{
		Name: "bench-1", Board: "raspberrypi", Adapter: "bench",
		Console: target.ConsoleAt{Device: "/dev/serial/by-id/usb-FTDI", Baud: 115200, User: "root", Password: "secret"},
		Power:   target.Power{On: []string{"usbrelay", "1=1"}, Off: []string{"usbrelay", "1=0"}, Pause: 500 * time.Millisecond},
		Flash:   []string{"flash.sh", "{image}"}, Exec: []string{"ssh", "root@192.168.7.20", "{command}"},
		Network: target.Network{Here: "192.168.7.1", Gateway: "192.168.7.20"},
		Simulators: []target.Simulator{
			{Name: "line-1", Kind: "modbus-rtu", Port: "rs485-1", Adapter: "/dev/ttyUSB1", Baud: 19200}, {Name: "press", Kind: "opcua", Baud: 19200},
		},
		QEMU: target.Machine{MemoryMiB: 256, Cache: "writeback", Watchdog: "i6300esb"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	const qemu = "name: q\nboard: qemu-armv7\nadapter: qemu\nqemu: {machine: armv7}\n"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "r.yaml: is empty"},
		{"a list", "[a]", "is no mapping"},
		{"two documents", qemu + "---\n" + qemu, "more than one YAML document"},
		{"an unknown key", strings.Replace(benchFile, "pause:", "pauze:", 1), `r.yaml:9: power.pauze: "pauze" is wrong: there is no such key; did you mean pause? Allowed are on, off, cut, reset, pause`},
		{"a key twice", qemu + "name: r\n", `r.yaml:5: name: "name" is wrong: the key is given twice`},
		{"an alias", strings.Replace(qemu, "name: q", "name: &a q", 1), `write the value out`},
		{"a wrong duration", strings.Replace(benchFile, "500ms", "5", 1), `power.pause: "5" is wrong: a duration is needed`},
		{"too long a duration", strings.Replace(benchFile, "500ms", "2h", 1), `power.pause: "2h0m0s" is wrong: a duration from 0s to 1h`},
		{"a wrong number", qemu + "console: {baud: fast}\n", `console.baud: "fast" is wrong: a whole number`},
		{"a command as text", strings.Replace(benchFile, `[usbrelay, "1=1"]`, "usbrelay 1=1", 1), `power.on: "usbrelay 1=1" is wrong: a list is needed`},
		{"no adapter", strings.Replace(qemu, "adapter: qemu", "adapter: kvm", 1), `adapter: "kvm" is wrong: allowed: qemu, bench`},
		{"another machine", strings.Replace(qemu, "armv7}", "riscv}", 1), `qemu.machine: "riscv" is wrong: allowed: armv7, arm64`},
		{"a cache", strings.Replace(qemu, "armv7}", "armv7, cache: maybe}", 1), `qemu.cache: "maybe" is wrong: allowed: writeback, none, unsafe`},
		{"too little memory", strings.Replace(qemu, "armv7}", "armv7, memoryMiB: 16}", 1), `qemu.memoryMiB: "16" is wrong: 64 to 3072 is allowed`},
		{"initrd alone", strings.Replace(qemu, "armv7}", "armv7, initrd: x}", 1), `initrd and append need a kernel`},
		{"a clock", strings.Replace(qemu, "armv7}", "armv7, rtc: yesterday}", 1), `qemu.rtc: "yesterday" is wrong: a time such as`},
		{"a command for qemu", qemu + "flash: [dd, \"{image}\"]\n", `flash: "dd {image}" is wrong: adapter qemu does this itself`},
		{"no console", strings.Replace(benchFile, "device: /dev/serial/by-id/usb-FTDI, ", "", 1), `console: "" is wrong: give device`},
		{"no power", strings.Replace(benchFile, `  off: [usbrelay, "1=0"]`+"\n", "", 1), `power.off: "" is wrong: a command is needed`},
		{"no place for the image", strings.Replace(benchFile, `"{image}"`, "image", 1), `flash: "flash.sh image" is wrong: one of its words has to contain {image}`},
		{"an address", strings.Replace(benchFile, "here: 192.168.7.1,", "here: laptop,", 1), `network.here: "laptop" is wrong: an IP address is needed`},
		{"half a stick", benchFile + "stick: {remove: [mux, off]}\n", `stick: "half" is wrong: give both insert and remove`},
		{"a simulator twice", strings.Replace(benchFile, "name: press", "name: line-1", 1), `simulators[1].name: "line-1" is wrong`},
		{"a line without an adapter", strings.Replace(benchFile, ", adapter: /dev/ttyUSB1", "", 1), `simulators[0].adapter: "" is wrong: the serial device of this computer`},
		{"a kind", strings.Replace(benchFile, "kind: opcua", "kind: bacnet", 1), `simulators[1].kind: "bacnet" is wrong: allowed: modbus-rtu, opcua`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := target.Parse("r.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant …%s…", err, c.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rig.yaml")
	if _, err := target.Load(path); err == nil {
		t.Error("a file that is not there is read")
	}
	if err := os.WriteFile(path, []byte(benchFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if rig, err := target.Load(path); err != nil || rig.Name != "bench-1" {
		t.Errorf("%+v, %v", rig, err)
	}
	if err := os.WriteFile(path, append([]byte(benchFile+"#"), make([]byte, 70<<10)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Load(path); err == nil || !strings.Contains(err.Error(), "is larger than 65536 bytes") {
		t.Errorf("a large file: %v", err)
	}
}

func TestQEMURigs(t *testing.T) {
	for _, board := range []string{"qemu-armv7", "qemu-arm64"} {
		rig, err := target.QEMU(board)
		if err != nil || rig.Board != board || rig.Adapter != "qemu" || len(rig.Simulators) != 2 {
			t.Errorf("%s: %+v, %v", board, rig, err)
		}
	}
	if _, err := target.QEMU("raspberrypi"); err == nil || !strings.Contains(err.Error(), "qemu-armv7, qemu-arm64") {
		t.Errorf("a board that QEMU is not: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(benchFile))
	f.Add([]byte("name: q\nboard: qemu-armv7\nadapter: qemu\nqemu: {machine: armv7, args: [-smp, \"2\"]}\n"))
	f.Add([]byte("simulators: [[{}]]\npower: {on: {a: b}}\n? [x]\n: y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rig, err := target.Parse("f.yaml", text)
		if err == nil && (rig.Name == "" || rig.Board == "" || rig.Adapter != "qemu" && len(rig.Power.On) == 0) {
			t.Errorf("accepted: %+v", rig)
		}
	})
}
