package inspect

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/board"
)

func (c *check) storage() {
	s := c.d.Storage
	if s == nil {
		return
	}
	name, ok := c.device(s.Disk)
	if !ok || !c.there("sys/class/block/"+name) {
		c.add("storage", "disk", Wrong, s.Disk+" is not there", "choose the board that fits, or correct storage.disk in its file")
		return
	}
	size, _ := c.number("sys/class/block/" + name + "/size")
	c.add("storage", "disk", OK, fmt.Sprintf("%s, %.1f GB", name, float64(size)*512/1e9), "")
	found := c.partitions(name)
	for _, p := range s.Partitions {
		dev := found[p.Name]
		switch {
		case dev == "":
			c.add("storage", p.Name, Wrong, "no partition of this name", "the disk does not hold the image of this board: write it anew, or choose the board that fits")
		case p.Mount != "" && p.Name == s.Data && !c.mounted(p.Mount):
			c.add("storage", p.Name, Wrong, dev+", not mounted", "nothing is mounted at "+p.Mount+": look at the boot's log for fsck")
		default:
			c.add("storage", p.Name, OK, dev, "")
		}
	}
	for _, slot := range s.Slots {
		boot, root := found[slot.Boot], found[slot.Root]
		if boot != "" && root != "" {
			c.add("slot", slot.Name, OK, boot+" and "+root, "")
		} else {
			c.add("slot", slot.Name, Wrong, "incomplete", "updates are not possible without both slots")
		}
	}
}

// partitions maps the names of a disk's partitions to devices.
func (c *check) partitions(disk string) map[string]string {
	out := map[string]string{}
	for _, dev := range c.list("sys/class/block") {
		if dev == disk || !strings.HasPrefix(dev, disk) {
			continue
		}
		for line := range strings.Lines(c.read("sys/class/block/" + dev + "/uevent")) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PARTNAME="); ok {
				out[name] = dev
			}
		}
	}
	return out
}

func (c *check) mounted(dir string) bool {
	for line := range strings.Lines(c.read("proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == dir {
			return true
		}
	}
	return false
}

func (c *check) serial() {
	for _, s := range c.d.Serial {
		dev, at := "", ""
		for _, p := range s.Devices {
			if name, ok := c.device(p); ok {
				dev, at = name, p
				break
			}
		}
		if dev == "" {
			c.missing("serial", s.Name, s.Optional, strings.Join(s.Devices, ", ")+" is not there", s.Note)
			continue
		}
		c.sees("tty", dev)
		found := at
		if path.Base(at) != dev {
			found += " (" + dev + ")"
		}
		switch {
		case !c.there("sys/class/tty/" + dev):
			c.add("serial", s.Name, Wrong, found+" is no serial port", "correct devices in the board's file")
		case c.isConsole(dev):
			c.add("serial", s.Name, Wrong, found+" is the kernel's console", "take console="+dev+" out of the kernel's command line, or the devices on the line hear boot messages")
		case s.Mode == "kernel":
			c.rs485(s, at, found)
		default:
			c.add("serial", s.Name, OK, found, "")
		}
	}
}

func (c *check) rs485(s board.Serial, at, found string) {
	switch enabled, err := c.RS485(c.at(at)); {
	case errors.Is(err, errNoRS485):
		c.add("serial", s.Name, Wrong, found+": its driver cannot switch a transmitter", "set mode to rts, or to auto if the hardware switches by itself")
	case err != nil:
		c.add("serial", s.Name, Unknown, fmt.Sprintf("%s: %v", found, err), "run it as root, while no other program holds the port")
	default:
		c.add("serial", s.Name, OK, found+", RS-485 by the kernel"+map[bool]string{true: " (on)", false: " (off until the agent opens it)"}[enabled], "")
	}
}

func (c *check) isConsole(dev string) bool {
	for line := range strings.Lines(c.read("proc/consoles")) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == dev {
			return true
		}
	}
	return false
}

// arphrdCAN is the type of CAN interfaces (linux/if_arp.h).
const arphrdCAN = "280"

func (c *check) can() {
	for _, x := range c.d.CAN {
		dir := "sys/class/net/" + x.Interface
		c.sees("net", x.Interface)
		switch {
		case !c.there(dir):
			c.missing("can", x.Name, x.Optional, x.Interface+" is not there", x.Note)
		case c.read(dir+"/type") != arphrdCAN:
			c.add("can", x.Name, Wrong, x.Interface+" is no CAN interface", "correct interface in the board's file")
		default:
			c.add("can", x.Name, OK, x.Interface+", "+c.read(dir+"/operstate"), "")
		}
	}
}

func (c *check) gpio() {
	if len(c.d.GPIO) == 0 {
		return
	}
	chips, err := c.Chips()
	for _, g := range c.d.GPIO {
		i := slices.IndexFunc(chips, func(x Chip) bool { return x.Label == g.Chip || x.Name == g.Chip })
		switch {
		case i >= 0 && g.Line < chips[i].Lines:
			c.add("gpio", g.Name, OK, fmt.Sprintf("%s (%s) line %d", chips[i].Name, chips[i].Label, g.Line), "")
		case i >= 0:
			c.add("gpio", g.Name, Wrong, fmt.Sprintf("%s has %d lines", chips[i].Name, chips[i].Lines), "correct line in the board's file: the first is 0")
		case err != nil:
			c.add("gpio", g.Name, Unknown, err.Error(), "run it as root")
		default:
			c.missing("gpio", g.Name, g.Optional, "there is no GPIO controller "+g.Chip, g.Note)
		}
	}
}

func (c *check) leds() {
	for _, l := range c.d.LEDs {
		i := slices.IndexFunc(l.Devices, func(n string) bool { return c.there("sys/class/leds/" + n) })
		if i < 0 {
			c.missing("led", l.Name, l.Optional, strings.Join(l.Devices, ", ")+" is not there", l.Note)
			continue
		}
		c.sees("leds", l.Devices[i])
		c.add("led", l.Name, OK, l.Devices[i], "")
	}
}

// watchdog reads what the kernel's class tells, and never opens the device: see the package's documentation.
func (c *check) watchdog() {
	w := c.d.Watchdog
	if w == nil {
		return
	}
	name, ok := c.device(w.Device)
	if !ok {
		c.missing("watchdog", name, w.Optional, w.Device+" is not there", w.Note)
		return
	}
	if name == "watchdog" { // the old name of the first
		name = "watchdog0"
	}
	c.sees("watchdog", name)
	dir := "sys/class/watchdog/" + name + "/"
	identity := c.read(dir + "identity")
	most, told := c.number(dir + "max_timeout")
	limit := time.Duration(most) * time.Second
	found := w.Device + ", " + identity
	if now, ok := c.number(dir + "timeout"); ok {
		found += fmt.Sprintf(", now %d s", now)
	}
	if state := c.read(dir + "state"); state != "" {
		found += ", " + state
	}
	switch {
	case identity == "":
		c.add("watchdog", name, Unknown, w.Device+" is there; "+dir+" does not tell what it is", "the kernel was built without CONFIG_WATCHDOG_SYSFS")
	case w.Identity != "" && w.Identity != identity:
		c.add("watchdog", name, Wrong, found, fmt.Sprintf("identity should be %q: another driver came first; blacklist it, or correct device or identity", w.Identity))
	case told && most > 0 && limit < w.Timeout:
		c.add("watchdog", name, Wrong, found+", at most "+limit.String(), "watchdog.timeout is "+w.Timeout.String()+": shorten it")
	default:
		c.add("watchdog", name, OK, found, "")
	}
}

// sane is before any gateway with this program was made: a clock that says less has lost the time.
var sane = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func (c *check) rtc() {
	x := c.d.RTC
	if x == nil {
		return
	}
	name, ok := c.device(x.Device)
	if !ok {
		c.missing("rtc", name, x.Optional, x.Device+" is not there", x.Note)
		return
	}
	c.sees("rtc", name)
	seconds, told := c.number("sys/class/rtc/" + name + "/since_epoch")
	now := time.Unix(seconds, 0).UTC()
	found := strings.TrimSpace(c.read("sys/class/rtc/"+name+"/name") + " " + now.Format(time.DateTime))
	switch {
	case !told && x.Battery:
		c.add("rtc", name, Wrong, x.Device+" cannot be read: it does not run", "set it (hwclock --systohc) and see whether it keeps the time without power; if not, replace the battery")
	case !told || now.Before(sane) && !x.Battery:
		c.add("rtc", name, OK, x.Device+", not set; the network gives the time", "")
	case now.Before(sane):
		c.add("rtc", name, Wrong, found, "it has lost the time: replace the battery, or wait for the first NTP answer if it is new")
	default:
		c.add("rtc", name, OK, found, "")
	}
}

func (c *check) tpm() {
	x := c.d.TPM
	if x == nil {
		return
	}
	name, ok := c.device(x.Device)
	if !ok {
		c.missing("tpm", name, x.Optional, x.Device+" is not there", x.Note)
		return
	}
	chip := "tpm" + strings.TrimLeft(name, "tpmr") // tpmrm0 is tpm0 through the kernel's resource manager
	c.sees("tpm", chip)
	switch version := c.read("sys/class/tpm/" + chip + "/tpm_version_major"); version {
	case "2":
		c.add("tpm", name, OK, x.Device+", TPM 2.0", "")
	case "":
		c.add("tpm", name, Unknown, x.Device+" is there; the kernel does not tell its version", "")
	default:
		c.add("tpm", name, Wrong, x.Device+", TPM "+version, "a TPM 2.0 is needed; take the key out of tpm in the board's file if there is none")
	}
}

func (c *check) network() {
	for _, n := range c.d.Network {
		c.sees("net", n.Interface)
		if dir := "sys/class/net/" + n.Interface; !c.there(dir) {
			c.missing("network", n.Name, n.Optional, n.Interface+" is not there", n.Note)
		} else {
			words := []string{n.Interface, c.read(dir + "/address"), c.read(dir + "/operstate")}
			c.add("network", n.Name, OK, strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), ", "), "")
		}
	}
}

func (c *check) console() {
	x := c.d.Console
	if x == nil {
		return
	}
	c.sees("tty", x.Device)
	switch {
	case !c.there("sys/class/tty/" + x.Device):
		c.add("console", x.Device, Wrong, "is not there", "correct console.device in the board's file")
	case !c.isConsole(x.Device):
		c.add("console", x.Device, Absent, "the kernel does not use it; console="+x.Device+","+strconv.Itoa(x.Baud)+" is not on its command line", "")
	default:
		c.add("console", x.Device, OK, strconv.Itoa(x.Baud)+" baud", "")
	}
}
