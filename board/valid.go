package board

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The words that keys allow.
var (
	architectures = []string{"arm", "arm64", "amd64"}
	tables        = []string{"gpt", "mbr"}
	bootloaders   = []string{"u-boot", "raspberrypi", "grub", "none"}
	filesystems   = []string{"vfat", "ext4", "squashfs", "raw"}
	serialKinds   = []string{"rs232", "rs422", "rs485", "ttl"}
	serialModes   = []string{"auto", "kernel", "rts"} // as the field rs485 of devices
	terminators   = []string{"none", "fixed", "switch", "software"}
	directions    = []string{"in", "out"}
	ledColors     = []string{"red", "green", "blue", "yellow", "orange", "white"}
	ledUses       = []string{"status", "link", "fault", "activity"}
	networkKinds  = []string{"ethernet", "wifi", "cellular", "virtual"}
	taintEffects  = []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}
)

// Limits of the agent's budget. With less it only collects garbage; with more than half of the memory it takes it from the pods.
const (
	LeastBudget = Size(36 << 20)
	mostBudget  = Size(4 << 30)
)

var (
	boardName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`) // a label's value, and a file's name
	partName   = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9_.]{0,35}$`)    // GPT names have 36 characters
	deviceFile = regexp.MustCompile(`^/dev/[-a-zA-Z0-9_.:/]{1,200}$`)
	sysName    = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9_.:]{0,63}$`) // in a folder of /sys
	ifName     = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9_.]{0,14}$`)  // IFNAMSIZ less the closing zero
	pattern    = regexp.MustCompile(`^[^*\x00-\x1f]{1,100}\*?$`)
	labelPart  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelHost  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
)

const (
	nameAllowed   = "a name is needed: lower-case letters, digits and '-', at most 63, as rs485-1"
	deviceAllowed = "the path of a device file is needed, as /dev/ttyS1"
	sysAllowed    = "a name in /sys is needed: letters, digits and -_.:"
)

// oneOf fails for a value that is none of the words.
func (r *reader) oneOf(key, value string, words []string) {
	if !slices.Contains(words, value) {
		r.Fail(key, value, "allowed are "+strings.Join(words, ", "))
	}
}

// maybe is oneOf for a key that may be left out.
func (r *reader) maybe(key, value string, words []string) {
	if value != "" {
		r.oneOf(key, value, words)
	}
}

func (r *reader) matches(key, value string, re *regexp.Regexp, allowed string) {
	if !re.MatchString(value) || strings.Contains(value, "..") {
		r.Fail(key, value, allowed)
	}
}

// names checks the names of a list: they have to be there, and each once.
func (r *reader) names(list string, n int, name func(int) string) {
	seen := map[string]bool{}
	for i := range n {
		key := fmt.Sprintf("%s[%d].name", list, i)
		r.matches(key, name(i), boardName, nameAllowed)
		if seen[name(i)] {
			r.Fail(key, name(i), "another entry of the list has this name")
		}
		seen[name(i)] = true
	}
}

// check judges a whole descriptor, and returns all that is wrong.
func (r *reader) check(d *Descriptor) error {
	r.matches("name", d.Name, boardName, "a name is needed: lower-case letters, digits and '-', at most 63, as acme-gateway-3")
	for i, p := range d.Match.DeviceTree {
		r.matches(fmt.Sprintf("match.deviceTree[%d]", i), p, pattern, "a compatible string is needed, as acme,gateway-3; it may end with one *")
	}
	for i, p := range d.Match.DMI {
		r.matches(fmt.Sprintf("match.dmi[%d].vendor", i), p.Vendor, pattern, "what /sys/class/dmi/id/sys_vendor says is needed; it may end with one *")
		r.matches(fmt.Sprintf("match.dmi[%d].product", i), p.Product, pattern, "what /sys/class/dmi/id/product_name says is needed; it may end with one *")
	}
	r.checkMachine(d)
	r.checkStorage(d.Storage)
	r.checkImage(d.Name, d.Image)
	r.checkSerial(d)
	r.checkLines(d)
	r.checkParts(d)
	r.checkNode(&d.Node)
	return r.Err()
}

func (r *reader) checkMachine(d *Descriptor) {
	if len(d.Architectures) == 0 {
		r.Fail("architectures", "", "at least one is needed; allowed are "+strings.Join(architectures, ", "))
	}
	for i, a := range d.Architectures {
		key := fmt.Sprintf("architectures[%d]", i)
		r.oneOf(key, a, architectures)
		if slices.Contains(d.Architectures[:i], a) {
			r.Fail(key, a, "it is listed twice")
		}
	}
	if arm := slices.Contains(d.Architectures, "arm"); arm && (d.GOARM < 5 || d.GOARM > 7) {
		r.Fail("goarm", d.GOARM, "arm needs 5, 6 or 7")
	} else if !arm && d.GOARM != 0 {
		r.Fail("goarm", d.GOARM, "it is for architectures with arm only; leave it out")
	}
	m := d.Memory
	if m.Installed < 64<<20 {
		r.Fail("memory.installed", m.Installed, "64Mi or more is needed: the least memory that the board is sold with")
	}
	if m.Budget < LeastBudget || m.Budget > mostBudget || m.Budget > m.Installed*2/3 {
		r.Fail("memory.budget", m.Budget, fmt.Sprintf("allowed are %s to %s, and not more than two thirds of memory.installed", LeastBudget, mostBudget))
	}
	if c := d.Console; c != nil {
		r.matches("console.device", c.Device, regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]{0,15}$`), "a device is needed as the kernel's console= has it, without /dev/: ttyS0")
		if c.Baud < 1200 || c.Baud > 4_000_000 {
			r.Fail("console.baud", c.Baud, "allowed are 1200 to 4000000")
		}
	}
}

func (r *reader) checkStorage(s *Storage) {
	if s == nil {
		return
	}
	r.matches("storage.disk", s.Disk, deviceFile, "the path of a disk is needed, as /dev/mmcblk0")
	r.maybe("storage.table", s.Table, tables)
	r.maybe("storage.bootloader", s.Bootloader, bootloaders)
	known := map[string]*Partition{}
	for i := range s.Partitions {
		p, key := &s.Partitions[i], fmt.Sprintf("storage.partitions[%d].", i)
		r.matches(key+"name", p.Name, partName, "a name is needed: letters, digits and -_., at most 36")
		if known[p.Name] != nil {
			r.Fail(key+"name", p.Name, "another partition has this name")
		}
		known[p.Name] = p
		r.oneOf(key+"filesystem", p.Filesystem, filesystems)
		if p.Mount != "" {
			r.matches(key+"mount", p.Mount, regexp.MustCompile(`^/[-a-zA-Z0-9_./]{0,100}$`), "an absolute path is needed")
		}
		if p.Size == 0 && i != len(s.Partitions)-1 {
			r.Fail(key+"size", p.Size, "only the last partition may be without: it gets what is left")
		}
	}
	is := func(key, name string, kinds ...string) {
		p := known[name]
		if p == nil {
			r.Fail(key, name, "there is no such partition in storage.partitions")
		} else if !slices.Contains(kinds, p.Filesystem) {
			r.Fail(key, name, fmt.Sprintf("the partition has the file system %s; allowed are %s", p.Filesystem, strings.Join(kinds, ", ")))
		}
	}
	if n := len(s.Slots); n != 0 && n != 2 {
		r.Fail("storage.slots", n, "two slots are needed, or none")
	}
	for i, slot := range s.Slots {
		key := fmt.Sprintf("storage.slots[%d].", i)
		r.matches(key+"name", slot.Name, regexp.MustCompile(`^[A-Z]$`), "one capital letter is needed: A, B")
		if i > 0 && (slot.Name == s.Slots[0].Name || slot.Boot == s.Slots[0].Boot || slot.Root == s.Slots[0].Root) {
			r.Fail(key+"name", slot.Name, "the slots share a name or a partition")
		}
		is(key+"boot", slot.Boot, "vfat", "ext4")
		is(key+"root", slot.Root, "squashfs")
	}
	if len(s.Slots) > 0 && len(s.Environment) != 2 {
		r.Fail("storage.environment", len(s.Environment), "slots need two partitions, one for each copy of the boot environment")
	}
	for i, name := range s.Environment {
		key := fmt.Sprintf("storage.environment[%d]", i)
		if slices.Contains(s.Environment[:i], name) {
			r.Fail(key, name, "each copy needs a partition of its own")
		}
		is(key, name, "raw")
	}
	if s.Data != "" {
		is("storage.data", s.Data, "ext4")
	}
}

func (r *reader) checkImage(name string, m *Image) {
	if m == nil {
		return
	}
	r.matches("image.kernel", m.Kernel, regexp.MustCompile(`^linux-image-[a-z0-9][-a-z0-9+.]{0,60}$`), "a package of Debian is needed that depends on the newest kernel, as linux-image-arm64")
	module := regexp.MustCompile(`^[a-z0-9][-a-z0-9_/]{0,63}\??$`)
	for _, l := range []struct {
		key  string
		list []string
	}{{"image.initrd", m.Initrd}, {"image.modules", m.Modules}} {
		for i, w := range l.list {
			r.matches(fmt.Sprintf("%s[%d]", l.key, i), w, module, "a kernel module is needed, as virtio_blk, or a folder of them with a slash behind it; a question mark behind it: if the kernel has it")
		}
	}
	if m.Limit < 32<<20 || m.Limit > 1<<30 {
		r.Fail("image.limit", m.Limit, "allowed are 32Mi to 1Gi")
	}
	if m.Debug && !strings.HasPrefix(name, "qemu-") {
		r.Fail("image.debug", m.Debug, "a root shell without a password is for virtual boards of the test rig only, whose names begin with qemu-")
	}
}

func (r *reader) checkSerial(d *Descriptor) {
	r.names("serial", len(d.Serial), func(i int) string { return d.Serial[i].Name })
	used := map[string]string{}
	if d.Console != nil {
		used["/dev/"+d.Console.Device] = "the console"
	}
	for i, s := range d.Serial {
		key := fmt.Sprintf("serial[%d].", i)
		if len(s.Devices) == 0 {
			r.Fail(key+"devices", "", "at least one path is needed, as /dev/ttyS1")
		}
		for j, path := range s.Devices {
			at := fmt.Sprintf("%sdevices[%d]", key, j)
			r.matches(at, path, deviceFile, deviceAllowed)
			if who := used[path]; who != "" {
				r.Fail(at, path, "it is also "+who)
			}
			used[path] = "serial port " + s.Name
		}
		r.oneOf(key+"kind", s.Kind, serialKinds)
		r.maybe(key+"mode", s.Mode, serialModes)
		if s.Mode != "" && s.Kind != "rs485" {
			r.Fail(key+"mode", s.Mode, "it is for kind rs485 only: nothing is switched on other lines")
		}
		r.maybe(key+"terminator", s.Terminator, terminators)
	}
}

// checkLines checks CAN, GPIO and lights.
func (r *reader) checkLines(d *Descriptor) {
	r.names("can", len(d.CAN), func(i int) string { return d.CAN[i].Name })
	for i, c := range d.CAN {
		key := fmt.Sprintf("can[%d].", i)
		r.matches(key+"interface", c.Interface, ifName, "the name of a network interface is needed, as can0")
		if c.Bitrate != 0 && (c.Bitrate < 5_000 || c.Bitrate > 8_000_000) {
			r.Fail(key+"bitrate", c.Bitrate, "allowed are 5000 to 8000000 bits per second")
		}
		r.maybe(key+"terminator", c.Terminator, terminators)
	}
	r.names("gpio", len(d.GPIO), func(i int) string { return d.GPIO[i].Name })
	for i, g := range d.GPIO {
		key := fmt.Sprintf("gpio[%d].", i)
		r.matches(key+"chip", g.Chip, sysName, "the label of a GPIO controller or gpiochipN is needed, as gpioinfo shows it")
		if g.Line < 0 || g.Line > 1023 {
			r.Fail(key+"line", g.Line, "allowed are 0 to 1023")
		}
		r.oneOf(key+"direction", g.Direction, directions)
	}
	r.names("leds", len(d.LEDs), func(i int) string { return d.LEDs[i].Name })
	for i, l := range d.LEDs {
		key := fmt.Sprintf("leds[%d].", i)
		if len(l.Devices) == 0 {
			r.Fail(key+"devices", "", "at least one name in /sys/class/leds is needed")
		}
		for j, name := range l.Devices {
			r.matches(fmt.Sprintf("%sdevices[%d]", key, j), name, sysName, sysAllowed)
		}
		r.maybe(key+"color", l.Color, ledColors)
		r.maybe(key+"use", l.Use, ledUses)
	}
}

// checkParts checks what there is one of, and the network.
func (r *reader) checkParts(d *Descriptor) {
	if w := d.Watchdog; w != nil {
		r.matches("watchdog.device", w.Device, deviceFile, "the path of a watchdog is needed, as /dev/watchdog0")
		if w.Timeout < 2*time.Second || w.Timeout > 10*time.Minute {
			r.Fail("watchdog.timeout", w.Timeout, "allowed are 2s to 10m")
		}
		if w.Longest != 0 && w.Longest < w.Timeout {
			r.Fail("watchdog.timeout", w.Timeout, "it is longer than watchdog.longest, "+w.Longest.String())
		}
	}
	if d.RTC != nil {
		r.matches("rtc.device", d.RTC.Device, deviceFile, "the path of a clock is needed, as /dev/rtc0")
	}
	if d.TPM != nil {
		r.matches("tpm.device", d.TPM.Device, deviceFile, "the path of a TPM is needed, as /dev/tpmrm0")
	}
	r.names("network", len(d.Network), func(i int) string { return d.Network[i].Name })
	for i, n := range d.Network {
		key := fmt.Sprintf("network[%d].", i)
		r.matches(key+"interface", n.Interface, ifName, "the name of a network interface is needed, as eth0")
		r.oneOf(key+"kind", n.Kind, networkKinds)
	}
}

func (r *reader) checkNode(n *Node) {
	for k, v := range n.Labels {
		if problem := labelKey(k); problem != "" {
			r.Fail("node.labels."+k, k, problem)
		}
		if v != "" {
			r.matches("node.labels."+k, v, labelPart, "a label's value has at most 63 letters, digits, '-', '_' and '.'")
		}
	}
	for i, text := range n.Taints {
		key := fmt.Sprintf("node.taints[%d]", i)
		rest, effect, ok := cutLast(text, ":")
		if !ok {
			r.Fail(key, text, "allowed is KEY=VALUE:EFFECT or KEY:EFFECT, as site=north:NoSchedule")
			continue
		}
		r.oneOf(key, effect, taintEffects)
		name, value, _ := strings.Cut(rest, "=")
		if problem := labelKey(name); problem != "" {
			r.Fail(key, text, problem)
		}
		if value != "" {
			r.matches(key, value, labelPart, "a taint's value has at most 63 letters, digits, '-', '_' and '.'")
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// labelKey says what is wrong with the key of a label or taint.
func labelKey(key string) string {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		prefix, name = "", key
	}
	if found && !labelHost.MatchString(prefix) || !labelPart.MatchString(name) {
		return "the key is a name of letters, digits, '-', '_' and '.', at most 63, and may have a domain and '/' before it"
	}
	return ""
}
