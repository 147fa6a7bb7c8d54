package board

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/skerry/skerry/board/strict"
)

const least = "name: a\narchitectures: [arm64]\nmemory: {installed: 256Mi, budget: 64Mi}\n"

// TestErrors: each error names the file, the line, the key, the value and what is allowed.
func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"", []string{"a.yaml: is empty"}},
		{"[]\n", []string{"a.yaml: is no mapping"}},
		{"name: [\n", []string{"a.yaml:", "yaml"}},
		{least + "---\nname: b\n", []string{"more than one YAML document"}},
		{"name: a\n", []string{"architectures", "arm, arm64, amd64", "memory.installed", "64Mi", "memory.budget"}},
		{least + "serail: []\n", []string{`a.yaml:4: serail: "serail" is wrong: there is no such key; did you mean serial? Allowed are name, title`}},
		{least + "zzzzzzzz: 1\n", []string{"there is no such key; allowed are name"}},
		{least + "name: b\n", []string{"given twice"}},
		{least + "watchdog:\n  device: /dev/watchdog0\n  timeot: 30s\n", []string{"a.yaml:6: watchdog.timeot", "did you mean timeout?"}},
		{least + "watchdog: {device: watchdog0, timeout: 1s, longest: 15s}\n", []string{`watchdog.device: "watchdog0"`, "/dev/watchdog0", `watchdog.timeout: "1s"`, "2s to 10m"}},
		{least + "watchdog: {device: /dev/watchdog0, timeout: 30s, longest: 15s}\n", []string{"longer than watchdog.longest, 15s"}},
		{least + "watchdog: {device: /dev/watchdog0, timeout: 30}\n", []string{`watchdog.timeout: "30"`, "15s or 1m30s"}},
		{least + "goarm: 7\n", []string{`goarm: "7"`, "arm only"}},
		{"name: a\narchitectures: [arm, arm, mips]\nmemory: {installed: 256Mi, budget: 1Gi}\n",
			[]string{`architectures[1]: "arm"`, "twice", `architectures[2]: "mips"`, "arm, arm64, amd64", `goarm: "0"`, "5, 6 or 7", `memory.budget: "1Gi"`, "two thirds"}},
		{least + "memory: {installed: 256Mi, budget: 64MB}\n", []string{"given twice"}},
		{"name: A_b\narchitectures: [arm64]\nmemory: {installed: big, budget: 64MB}\n", []string{`memory.installed: "big"`, `memory.budget: "64MB"`, "Ki, Mi or Gi"}},
		{least + "serial:\n  - {name: x, devices: [/dev/ttyS1], kind: rs232, mode: kernel}\n  - {name: x, devices: [ttyS1, /dev/ttyS1], kind: rs-485, terminator: maybe}\n  - {name: y, kind: rs485, mode: kernal}\n",
			[]string{`a.yaml:5: serial[0].mode: "kernel"`, "rs485 only", `serial[1].name: "x"`, "another entry", `a.yaml:6: serial[1].devices[0]: "ttyS1"`, `serial[1].devices[1]: "/dev/ttyS1" is wrong: it is also serial port x`,
				`serial[1].kind: "rs-485" is wrong: allowed are rs232, rs422, rs485, ttl`, `serial[1].terminator: "maybe"`, "none, fixed, switch, software", "serial[2].devices", `a.yaml:7: serial[2].mode: "kernal" is wrong: allowed are auto, kernel, rts`}},
		{least + "console: {device: ttyS0, baud: 115200}\nserial: [{name: x, devices: [/dev/ttyS0], kind: rs232}]\n", []string{"it is also the console"}},
		{least + "console: {device: /dev/ttyS0, baud: 7}\n", []string{`console.device: "/dev/ttyS0"`, "without /dev/", `console.baud: "7"`}},
		{least + "can: [{name: c, interface: a-very-long-interface-name, bitrate: 1}]\n", []string{"can[0].interface", "can[0].bitrate", "5000 to 8000000"}},
		{least + "gpio: [{name: g, chip: '', line: 5000, direction: up}]\n", []string{"gpio[0].chip", "gpio[0].line", "0 to 1023", `gpio[0].direction: "up" is wrong: allowed are in, out`}},
		{least + "leds: [{name: l, devices: [../x], color: pink, use: disco}, {name: m}]\n", []string{"leds[0].devices[0]", "leds[0].color", "leds[0].use", "status, link, fault, activity", "leds[1].devices"}},
		{least + "network: [{name: n, interface: eth0, kind: token-ring}]\n", []string{`network[0].kind: "token-ring"`, "ethernet, wifi, cellular, virtual"}},
		{least + "rtc: {device: /dev/../etc/passwd}\ntpm: {device: x}\n", []string{"rtc.device", "tpm.device"}},
		{least + "node: {labels: {'a b': c, ok: 'no way'}, taints: [x, 'a:Never', '/:NoSchedule']}\n", []string{"node.labels.a b", `node.labels.ok: "no way"`, "node.taints[0]", "KEY:EFFECT", `node.taints[1]: "Never"`, "node.taints[2]"}},
		{least + "match: {deviceTree: ['a*b'], dmi: [{vendor: x}]}\n", []string{"match.deviceTree[0]", "match.dmi[0].product"}},
		{least + "storage:\n  disk: mmcblk0\n  table: msdos\n  bootloader: lilo\n", []string{"storage.disk", "storage.table", "gpt, mbr", "storage.bootloader", "u-boot, raspberrypi, grub, none"}},
		{least + "storage: {disk: /dev/vda, partitions: [{name: a, filesystem: ntfs}, {name: a, filesystem: ext4, mount: x}], slots: [{name: A, boot: a, root: b}], data: c}\n",
			[]string{"storage.partitions[0].filesystem", "storage.partitions[0].size", "storage.partitions[1].name", "storage.partitions[1].mount", "storage.slots", "two slots", "storage.slots[0].root", "no such partition", "storage.environment", "storage.data"}},
		{least + "title: &x y\n", []string{"anchor"}},
		{least + "title: [x]\n", []string{"title", "one value"}},
		{least + "serial: {}\n", []string{"serial", "a list is needed"}},
		{least + "rtc: 7\n", []string{"rtc", "a mapping is needed, with the keys device, battery"}},
		{least + "rtc: {device: /dev/rtc0, battery: maybe}\n", []string{"rtc.battery", "true and false"}},
		{least + "extends: raspberrypi\n", []string{"extends", "folder of boards"}},
	} {
		_, err := Parse("a.yaml", []byte(tc.text))
		if err == nil {
			t.Errorf("accepted:\n%s", tc.text)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s\nthe error does not say %q:\n%v", tc.text, w, err)
			}
		}
	}
}

// TestTooMuch: a file that is large in one way or another is refused, and its error is short.
func TestTooMuch(t *testing.T) {
	for what, text := range map[string]string{
		"file": least + "# " + strings.Repeat("x", strict.MaxFile), "list": least + "serial: [" + strings.Repeat("{},", strict.MaxList+1) + "]\n",
		"text": least + "title: " + strings.Repeat("x", strict.MaxText+1) + "\n", "key": least + strings.Repeat("k", strict.MaxFile/2) + ": 1\n",
		"errors": least + "serial: [" + strings.Repeat("{x: 1, y: 2},", strict.MaxList) + "]\n", "labels": least + "node: {labels: {" + strings.Repeat("a: b, ", strict.MaxList+1) + "}}\n",
	} {
		_, err := Parse("a.yaml", []byte(text))
		if err == nil || len(err.Error()) > 8<<10 {
			t.Errorf("%s: %.200v", what, err)
		}
	}
}

// TestManual holds docs/boards.md to the keys: every one has a row, and no other.
func TestManual(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "boards.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	_, reference, _ := strings.Cut(string(b), "\n## Keys\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-zA-Z.\\[\\]]+)` \\|").FindAllStringSubmatch(reference, -1) {
		rows[m[1]] = true
	}
	var keys []string
	listKeys(reflect.TypeFor[Descriptor](), "", &keys)
	for _, k := range keys {
		if !rows[k] {
			t.Errorf("docs/boards.md has no row for %s", k)
		}
		delete(rows, k)
	}
	for k := range rows {
		t.Errorf("docs/boards.md has a row for %s, which is no key", k)
	}
	if len(keys) < 60 {
		t.Errorf("only %d keys found", len(keys))
	}
	for _, name := range shipped() {
		if !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("docs/boards.md does not mention %s", name)
		}
	}
	for _, words := range [][]string{architectures, tables, bootloaders, filesystems, serialKinds, serialModes, terminators, directions, ledColors, ledUses, networkKinds} {
		for _, w := range words {
			if !strings.Contains(string(b), "`"+w+"`") {
				t.Errorf("docs/boards.md does not explain the value %s", w)
			}
		}
	}
}

func listKeys(t reflect.Type, prefix string, out *[]string) {
	for i, key := range strict.Keys(t) {
		f := t.Field(i).Type
		name := prefix + key
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		if f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct {
			name, f = name+"[]", f.Elem()
		}
		if f.Kind() == reflect.Struct {
			listKeys(f, name+".", out)
		} else {
			*out = append(*out, name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	for _, name := range shipped() {
		text, err := builtIn.ReadFile("boards/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, s := range []string{"a: &a [*a]\n", "serial: [{}]\n", "? [a]\n: b\n", "watchdog: null\n", "node: {labels: {a: {}}}\n", "memory: {budget: 9223372036854775807Gi}\n", "!!binary x: y\n", "<<: {name: a}\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse("fuzz.yaml", text)
		if err != nil {
			return
		}
		shown, err := d.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("fuzz.yaml", shown)
		if err != nil {
			t.Fatalf("what is shown cannot be read: %v\n%s", err, shown)
		}
		if third, err := again.YAML(); err != nil || string(third) != string(shown) {
			t.Fatalf("shown again it differs (%v):\n%s\n%s", err, shown, third)
		}
	})
}
