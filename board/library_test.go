package board

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// shipped are the boards that are compiled in.
func shipped() []string {
	return []string{"beaglebone-black", "generic-amd64", "generic-arm64", "generic-armv7", "qemu-arm64", "qemu-armv7", "raspberrypi", "revolution-pi"}
}

// TestShippedBoards: every board that is compiled in is valid, keeps to what all of them promise, and survives being written.
func TestShippedBoards(t *testing.T) {
	lib := Library{}
	if names := lib.Names(); !slices.Equal(names, shipped()) {
		t.Fatalf("boards %v, want %v", names, shipped())
	}
	for _, name := range shipped() {
		d, err := lib.Load(name)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if d.Title == "" || d.Source != BuiltIn || d.Extends != "" {
			t.Errorf("%s: title %q, source %q, extends %q", name, d.Title, d.Source, d.Extends)
		}
		// The design's ceiling on the ARM boards that are shipped.
		if d.Architectures[0] != "amd64" && d.Memory.Budget > 70_000_000 {
			t.Errorf("%s: budget %s is above 70 MB", name, d.Memory.Budget)
		}
		if generic := strings.HasPrefix(name, "generic-"); generic != (len(d.Match.DeviceTree)+len(d.Match.DMI) == 0) {
			t.Errorf("%s: match %+v", name, d.Match)
		}
		text, err := d.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(name+".yaml", text)
		if err != nil {
			t.Errorf("%s as it is shown cannot be read: %v\n%s", name, err, text)
			continue
		}
		again.Source = BuiltIn
		if !reflect.DeepEqual(again, d) {
			t.Errorf("%s as it is shown is another board:\n%+v\n%+v", name, again, d)
		}
	}
}

func TestChoose(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "acme-3", "extends: generic-armv7\ntitle: ACME 3\nmatch: {deviceTree: ['acme,gateway-3']}\n")
	write(t, dir, "raspberrypi", "extends: raspberrypi\nmemory: {budget: 128Mi}\n")
	write(t, dir, "broken", "architectures: [arm\n")
	pi4 := []string{"raspberrypi,4-model-b", "brcm,bcm2711"}
	for _, tc := range []struct {
		what, name string
		id         Identity
		want, why  string
	}{
		{"Pi 4, 64 bits", "", Identity{Architecture: "arm64", Compatible: pi4}, "raspberrypi", "raspberrypi,4-model-b"},
		{"Pi 4, 32-bit program", "", Identity{Architecture: "arm", Compatible: pi4}, "raspberrypi", "raspberrypi,4-model-b"},
		{"RevPi on a Pi's compute module", "", Identity{Architecture: "arm64", Compatible: []string{"kunbus,revpi-connect4", "raspberrypi,4-compute-module", "brcm,bcm2711"}}, "revolution-pi", "kunbus,revpi-connect4"},
		{"BeagleBone", "", Identity{Architecture: "arm", Compatible: []string{"ti,am335x-bone-black", "ti,am335x-bone", "ti,am33xx"}}, "beaglebone-black", "ti,am335x-bone-black"},
		{"QEMU arm", "", Identity{Architecture: "arm", Compatible: []string{"linux,dummy-virt"}}, "qemu-armv7", "linux,dummy-virt"},
		{"QEMU arm64", "", Identity{Architecture: "arm64", Compatible: []string{"linux,dummy-virt"}}, "qemu-arm64", "linux,dummy-virt"},
		{"QEMU arm64 with UEFI", "", Identity{Architecture: "arm64", Vendor: "QEMU", Product: "KVM Virtual Machine"}, "qemu-arm64", "KVM Virtual Machine"},
		{"a PC", "", Identity{Architecture: "amd64", Vendor: "ACME", Product: "Box"}, "generic-amd64", `no board fits DMI's "ACME" "Box"`},
		{"an unheard-of board", "", Identity{Architecture: "arm", Compatible: []string{"vendor,thing", "ti,am33xx"}}, "generic-armv7", "vendor,thing"},
		{"described on the device", "", Identity{Architecture: "arm", Compatible: []string{"acme,gateway-3", "ti,am335x-bone-black"}}, "acme-3", "acme,gateway-3"},
		{"named", "generic-arm64", Identity{Architecture: "arm64", Compatible: pi4}, "generic-arm64", "named"},
	} {
		c, err := Library{Dir: dir}.Choose(tc.name, tc.id)
		if err != nil {
			t.Errorf("%s: %v", tc.what, err)
			continue
		}
		if c.Name != tc.want || !strings.Contains(c.Why, tc.why) {
			t.Errorf("%s: %s (%s), want %s (…%s…)", tc.what, c.Name, c.Why, tc.want, tc.why)
		}
		if skipped := errors.Join(c.Skipped...); tc.name == "" && (skipped == nil || !strings.Contains(skipped.Error(), "broken.yaml")) {
			t.Errorf("%s: the broken file is not told: %v", tc.what, skipped)
		}
	}
	if c, err := (Library{Dir: dir}).Choose("", Identity{Architecture: "arm64", Compatible: pi4}); err != nil || c.Memory.Budget != 128<<20 || len(c.LEDs) != 2 {
		t.Errorf("the file on the device does not change the built-in board: %+v, %v", c.Descriptor, err)
	}
	for name, want := range map[string]string{
		"raspberypi": "did you mean raspberrypi?", "generic-armv7": "for arm, and this program for amd64", "broken": "broken.yaml", "../etc": "no such board",
	} {
		if _, err := (Library{Dir: dir}).Choose(name, Identity{Architecture: "amd64"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
}

// TestBrokenOverride: a file that cannot be read does not take the built-in board of its name away.
func TestBrokenOverride(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "raspberrypi", "extends: raspberrypi\nmemory: {budget: plenty}\n")
	c, err := Library{Dir: dir}.Choose("", Identity{Architecture: "arm64", Compatible: []string{"raspberrypi,5-model-b"}})
	if err != nil || c.Name != "raspberrypi" || c.Source != BuiltIn || len(c.Skipped) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestExtends(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "child", "extends: parent\nwatchdog: {timeout: 20s}\nrtc: null\nnode: {labels: {b: '2', c: null}}\n")
	write(t, dir, "parent", "extends: qemu-arm64\nimage: null\nmatch: {deviceTree: ['acme,parent']}\nnode: {labels: {a: '1', c: '3'}, taints: ['site=north:NoSchedule']}\n")
	d, err := Library{Dir: dir}.Load("child")
	if err != nil {
		t.Fatal(err)
	}
	if d.Watchdog.Timeout.Seconds() != 20 || d.Watchdog.Identity != "i6300ESB timer" || d.RTC != nil || len(d.Network) != 1 {
		t.Errorf("%+v", d)
	}
	if len(d.Match.DeviceTree) != 0 {
		t.Errorf("another board's match is taken over: %v", d.Match)
	}
	if want := map[string]string{"a": "1", "b": "2"}; !reflect.DeepEqual(d.Node.Labels, want) || len(d.Node.Taints) != 1 {
		t.Errorf("node %+v, want labels %v", d.Node, want)
	}
	for name, text := range map[string]string{"circle-a": "extends: circle-b\n", "circle-b": "extends: circle-a\n", "orphan": "extends: nobody\n", "liar": "extends: qemu-arm64\nname: other\n"} {
		write(t, dir, name, text)
	}
	for name, want := range map[string]string{"circle-a": "circle", "orphan": "orphan.yaml:1: extends", "liar": "both must be the same"} {
		if _, err := (Library{Dir: dir}).Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
}

// TestDebugImage: the root shell of the test rig is for virtual boards; who copies one for a real board gets none.
func TestDebugImage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "acme-gateway", "extends: qemu-arm64\n")
	write(t, dir, "qemu-acme", "extends: qemu-arm64\n")
	if _, err := (Library{Dir: dir}).Load("acme-gateway"); err == nil || !strings.Contains(err.Error(), "image.debug") {
		t.Errorf("a real board's image has a root shell: %v", err)
	}
	if d, err := (Library{Dir: dir}).Load("qemu-acme"); err != nil || !d.Image.Debug {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestIdentify(t *testing.T) {
	id := Identify(tree(t, map[string]string{"proc/device-tree/compatible": "ti,am335x-bone-black\x00ti,am33xx\x00", "sys/class/dmi/id/sys_vendor": "ACME\n"}))
	if !slices.Equal(id.Compatible, []string{"ti,am335x-bone-black", "ti,am33xx"}) || id.Vendor != "ACME" || id.Architecture == "" {
		t.Errorf("%+v", id)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
