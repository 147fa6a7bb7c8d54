package inspect

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skerry/skerry/board"
)

// State is what a comparison found.
type State string

// The states.
const (
	OK      State = "ok"
	Absent  State = "absent"  // optional, and not there
	Wrong   State = "WRONG"   // not there, or not as described
	Unknown State = "UNKNOWN" // the machine does not tell
	Extra   State = "extra"   // there, and not described
)

// Row is one comparison.
type Row struct {
	Part  string `json:"part"`
	Name  string `json:"name"`
	State State  `json:"state"`
	Found string `json:"found"`            // what is there
	Do    string `json:"advice,omitempty"` // what to do
}

// Report is all comparisons of one board.
type Report struct {
	Board string `json:"board"`
	Rows  []Row  `json:"rows"`
}

// Good tells whether nothing contradicts the descriptor.
func (r Report) Good() bool {
	return !slices.ContainsFunc(r.Rows, func(x Row) bool { return x.State == Wrong || x.State == Unknown })
}

// System is the machine. The zero value but for Root is the real one.
type System struct {
	// Root is the folder with dev, sys and proc.
	Root string
	// RS485 tells whether the driver of a port switches a transmitter; nil: ask it (TIOCGRS485).
	RS485 func(path string) (enabled bool, err error)
	// Chips lists the GPIO controllers; nil: ask them.
	Chips func() ([]Chip, error)
}

// Chip is a GPIO controller.
type Chip struct {
	Name, Label string
	Lines       int
}

// check is one run.
type check struct {
	System
	d    *board.Descriptor
	rows []Row
	seen map[string]bool // "tty/ttyS0": what is described
}

// Check compares d with the machine.
func Check(d *board.Descriptor, sys System) Report {
	c := &check{System: sys, d: d, seen: map[string]bool{}}
	if c.RS485 == nil {
		c.RS485 = kernelRS485
	}
	if c.Chips == nil {
		c.Chips = func() ([]Chip, error) { return gpioChips(c.at("dev")) }
	}
	c.machine()
	c.storage()
	c.serial()
	c.can()
	c.gpio()
	c.leds()
	c.watchdog()
	c.rtc()
	c.tpm()
	c.network()
	c.console()
	c.extras()
	return Report{Board: d.Name, Rows: c.rows}
}

func (c *check) add(part, name string, state State, found, do string) {
	c.rows = append(c.rows, Row{Part: part, Name: name, State: state, Found: found, Do: do})
}

// missing adds what is not there.
func (c *check) missing(part, name string, optional bool, what, note string) {
	state, do := Wrong, "fit or switch it on, or mark it optional in the board's file"
	if optional {
		state, do = Absent, ""
	}
	if note != "" {
		what += " (" + note + ")"
	}
	c.add(part, name, state, what, do)
}

// at returns the place of a path of the machine.
func (c *check) at(p string) string { return filepath.Join(c.Root, p) }

func (c *check) there(p string) bool {
	_, err := os.Stat(c.at(p))
	return err == nil
}

// read returns the trimmed text of a small file, "" if there is none.
func (c *check) read(p string) string {
	b, err := os.ReadFile(c.at(p))
	if err != nil {
		return ""
	}
	return strings.Trim(string(b[:min(len(b), 64<<10)]), " \t\r\n\x00")
}

func (c *check) number(p string) (int64, bool) {
	n, err := strconv.ParseInt(c.read(p), 10, 64)
	return n, err == nil
}

// device follows the links of a device file and returns the kernel's name of it. ok is false if there is none.
func (c *check) device(p string) (name string, ok bool) {
	for range 8 {
		target, err := os.Readlink(c.at(p))
		if err != nil {
			break
		}
		if path.IsAbs(target) {
			p = target
		} else {
			p = path.Join(path.Dir(p), target)
		}
	}
	return path.Base(p), c.there(p)
}

// sees remembers that something of a class is described.
func (c *check) sees(class, name string) { c.seen[class+"/"+name] = true }

func (c *check) list(p string) []string {
	entries, err := os.ReadDir(c.at(p))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type()&(fs.ModeDir|fs.ModeSymlink) != 0 { // as all of /sys/class
			names = append(names, e.Name())
		}
	}
	return names
}

// extras lists what is there and not described, for whoever writes a board's file.
func (c *check) extras() {
	for _, x := range []struct {
		class, part string
		real        func(name string) bool
	}{
		{"tty", "serial", func(n string) bool {
			return c.there("sys/class/tty/"+n+"/device/driver") && c.read("sys/class/tty/"+n+"/type") != "0" // 0: an 8250 without a chip
		}},
		{"net", "network", func(n string) bool { return c.there("sys/class/net/" + n + "/device") }},
		{"leds", "led", func(n string) bool { return !strings.Contains(n, "::") && !strings.HasPrefix(n, "input") }},
		{"watchdog", "watchdog", nil}, {"rtc", "rtc", nil}, {"tpm", "tpm", nil},
	} {
		var more []string
		for _, n := range c.list("sys/class/" + x.class) {
			if !c.seen[x.class+"/"+n] && (x.real == nil || x.real(n)) {
				more = append(more, n)
			}
		}
		if len(more) > 0 {
			c.add(x.part, "-", Extra, strings.Join(more, ", "), "")
		}
	}
}

func (c *check) machine() {
	id := board.Identify(c.Root)
	switch fits := c.d.Fits(id); {
	case !slices.Contains(c.d.Architectures, id.Architecture):
		c.add("machine", "architecture", Wrong, id.Architecture, "the board's file is for "+strings.Join(c.d.Architectures, " and "))
	case fits != "":
		c.add("machine", "identity", OK, fits, "")
	case len(c.d.Match.DeviceTree)+len(c.d.Match.DMI) == 0:
		c.add("machine", "identity", OK, "fits any machine; this is "+id.String(), "")
	default:
		c.add("machine", "identity", Wrong, id.String(), "this is another board: choose its file (skerryctl board list), or add this one to match")
	}
	total := board.MemoryTotal(c.Root)
	found := fmt.Sprintf("%d MiB", total>>20)
	switch {
	case total == 0:
		c.add("memory", "installed", Unknown, "/proc/meminfo does not tell", "")
	case total < int64(c.d.Memory.Installed)*3/4: // the kernel and the GPU take their part: 111 of 128 MiB are left on armhf
		c.add("memory", "installed", Wrong, found, fmt.Sprintf("memory.installed is %s: correct it, and memory.budget with it", c.d.Memory.Installed))
	default:
		c.add("memory", "installed", OK, found+fmt.Sprintf(", the agent's budget is %s", c.d.Memory.Budget), "")
	}
}
