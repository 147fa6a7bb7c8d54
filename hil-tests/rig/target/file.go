package target

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/board/strict"
)

// Rig is a rig file: one gateway and what is attached to it.
type Rig struct {
	Name string `yaml:"name"`
	// Board is the name of the gateway's board, and of the image that is made for it.
	Board      string      `yaml:"board"`
	Adapter    string      `yaml:"adapter"` // qemu, bench
	Console    ConsoleAt   `yaml:"console"`
	Power      Power       `yaml:"power"`
	Flash      []string    `yaml:"flash"` // command that writes {image} to the gateway
	Exec       []string    `yaml:"exec"`  // command that runs {command} on it, such as ssh
	Stick      Stick       `yaml:"stick"`
	Network    Network     `yaml:"network"`
	Simulators []Simulator `yaml:"simulators"`
	QEMU       Machine     `yaml:"qemu"`
}

// ConsoleAt says where the gateway's console is: at a serial device or pseudo-terminal, or at a socket (ser2net, a chardev of QEMU).
type ConsoleAt struct {
	Device   string `yaml:"device"`
	Baud     int    `yaml:"baud"`     // of Device; default 115200
	Socket   string `yaml:"socket"`   // unix:/path or tcp:host:port
	User     string `yaml:"user"`     // who logs in before a command; empty: there is a shell already
	Password string `yaml:"password"` // of User; empty: none is asked for
}

// Power is how a bench switches the gateway: commands.
type Power struct {
	On    []string      `yaml:"on"`
	Off   []string      `yaml:"off"`
	Cut   []string      `yaml:"cut"`   // default: off
	Reset []string      `yaml:"reset"` // default: off, pause, on
	Pause time.Duration `yaml:"pause"` // between off and on; default 2 s
}

// Stick is how a bench plugs in a USB stick: commands.
type Stick struct {
	Insert []string `yaml:"insert"` // with the content {image}
	Remove []string `yaml:"remove"`
}

// Network is how this computer and the gateway of a bench reach each other.
type Network struct {
	Here    string   `yaml:"here"`    // this computer's address, as the gateway sees it
	Gateway string   `yaml:"gateway"` // the gateway's address
	Up      []string `yaml:"up"`      // commands that connect and cut the gateway's network
	Down    []string `yaml:"down"`
}

// Simulator is a device that is attached to the gateway.
type Simulator struct {
	Name    string `yaml:"name"`
	Kind    string `yaml:"kind"`    // modbus-rtu, opcua
	Port    string `yaml:"port"`    // modbus-rtu: the name of the serial port in the board's file, or its path on the gateway
	Adapter string `yaml:"adapter"` // modbus-rtu on a bench: the serial device of this computer at the other end of the line
	Baud    int    `yaml:"baud"`    // modbus-rtu; default 19200
}

// Machine is QEMU's machine.
type Machine struct {
	Machine   string `yaml:"machine"`   // armv7, arm64
	MemoryMiB int    `yaml:"memoryMiB"` // default 256
	DiskMiB   int    `yaml:"diskMiB"`   // size to which the disk is grown when it is flashed; 0: as the image
	Cache     string `yaml:"cache"`     // writeback, none, unsafe; default writeback
	// WriteLog is a file, made anew at each start, in which QEMU's blklogwrites driver notes what is written to the disk, and when that is flushed; it needs a disk.
	WriteLog string   `yaml:"writeLog"`
	Firmware string   `yaml:"firmware"` // default: Debian's U-Boot
	Kernel   string   `yaml:"kernel"`   // booted instead of Firmware
	Initrd   string   `yaml:"initrd"`
	Append   string   `yaml:"append"`
	RTC      string   `yaml:"rtc"`      // what the clock says when the machine is switched on, such as 1970-01-01T00:00:00; default: the time
	Watchdog string   `yaml:"watchdog"` // i6300esb, none; default i6300esb
	Args     []string `yaml:"args"`     // further arguments
}

// The adapters, and the kinds of simulators.
const (
	AdapterQEMU  = "qemu"
	AdapterBench = "bench"
	KindRTU      = "modbus-rtu"
	KindOPCUA    = "opcua"
)

// Load reads a rig file.
func Load(path string) (*Rig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the rig file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, strict.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the rig file: %w", err)
	}
	return Parse(filepath.Base(path), text)
}

// Parse reads and checks a rig file. file is what errors call it.
func Parse(file string, text []byte) (*Rig, error) {
	var rig Rig
	r := newReader(file)
	if err := r.Decode(text, &rig); err != nil {
		return nil, err
	}
	r.check(&rig)
	if err := r.Err(); err != nil {
		return nil, err
	}
	rig.defaults()
	return &rig, nil
}

// reader reads a rig file, and checks what it has read.
type reader struct{ strict.Reader }

func newReader(file string) *reader { return &reader{strict.Reader{File: file}} }

// QEMU is the rig of one of QEMU's machines, with a Modbus line at the USB port and an OPC UA server: boards qemu-armv7 and qemu-arm64.
func QEMU(board string) (*Rig, error) {
	machine, ok := strings.CutPrefix(board, "qemu-")
	if !ok || !slices.Contains(machines, machine) {
		return nil, fmt.Errorf("there is no machine for board %q; allowed: qemu-%s", board, strings.Join(machines, ", qemu-"))
	}
	rig := &Rig{
		Name: board, Board: board, Adapter: AdapterQEMU, QEMU: Machine{Machine: machine},
		Simulators: []Simulator{{Name: "line-1", Kind: KindRTU, Port: "usb-1"}, {Name: "press", Kind: KindOPCUA}},
	}
	rig.defaults()
	return rig, nil
}

var machines = []string{"armv7", "arm64"}

func (rig *Rig) defaults() {
	set := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	set(&rig.Console.Baud, 115200)
	set(&rig.QEMU.MemoryMiB, 256)
	for i := range rig.Simulators {
		set(&rig.Simulators[i].Baud, 19200)
	}
	if rig.Power.Pause == 0 {
		rig.Power.Pause = 2 * time.Second
	}
	if rig.QEMU.Cache == "" {
		rig.QEMU.Cache = "writeback"
	}
	if rig.QEMU.Watchdog == "" {
		rig.QEMU.Watchdog = "i6300esb"
	}
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)
	rtcForm  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`)
)

const nameRule = "lower-case letters, digits and dashes are allowed, at most 40"

// check judges what the types do not.
func (r *reader) check(rig *Rig) {
	if !nameForm.MatchString(rig.Name) {
		r.Fail("name", rig.Name, nameRule)
	}
	if p := rig.Power.Pause; p < 0 || p > time.Hour {
		r.Fail("power.pause", p, "a duration from 0s to 1h is needed, such as 2s or 500ms")
	}
	if !nameForm.MatchString(rig.Board) {
		r.Fail("board", rig.Board, "the name of a board is needed (skerryctl board list)")
	}
	r.oneOf("adapter", rig.Adapter, AdapterQEMU, AdapterBench)
	r.simulators(rig)
	if rig.Adapter == AdapterQEMU {
		r.machine(&rig.QEMU)
		r.onlyBench(rig)
		return
	}
	r.bench(rig)
}

func (r *reader) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		r.Fail(key, value, "allowed: "+strings.Join(slices.DeleteFunc(allowed, func(s string) bool { return s == "" }), ", "))
	}
}

func (r *reader) within(key string, n, low, high int) {
	if n < low || n > high {
		r.Fail(key, strconv.Itoa(n), fmt.Sprintf("%d to %d is allowed", low, high))
	}
}

func (r *reader) simulators(rig *Rig) {
	seen := map[string]bool{}
	for i, s := range rig.Simulators {
		key := "simulators[" + strconv.Itoa(i) + "]"
		if !nameForm.MatchString(s.Name) || seen[s.Name] {
			r.Fail(key+".name", s.Name, nameRule+", and no name twice")
		}
		seen[s.Name] = true
		r.oneOf(key+".kind", s.Kind, KindRTU, KindOPCUA)
		r.within(key+".baud", s.Baud, 0, 4_000_000)
		switch rtu := s.Kind == KindRTU; {
		case rtu && s.Port == "":
			r.Fail(key+".port", "", "the gateway's serial port is needed: a name of the board's file, or a path")
		case rtu && rig.Adapter == AdapterBench && s.Adapter == "":
			r.Fail(key+".adapter", "", "the serial device of this computer at the other end of the line is needed")
		case !rtu && s.Port+s.Adapter != "":
			r.Fail(key+".port", s.Port+s.Adapter, "only modbus-rtu has port and adapter")
		}
	}
}

func (r *reader) machine(m *Machine) {
	r.oneOf("qemu.machine", m.Machine, machines...)
	r.oneOf("qemu.cache", m.Cache, "", "writeback", "none", "unsafe")
	r.oneOf("qemu.watchdog", m.Watchdog, "", "i6300esb", "none")
	if m.MemoryMiB != 0 {
		r.within("qemu.memoryMiB", m.MemoryMiB, 64, 3072)
	}
	r.within("qemu.diskMiB", m.DiskMiB, 0, 1<<20)
	if m.RTC != "" && !rtcForm.MatchString(m.RTC) {
		r.Fail("qemu.rtc", m.RTC, "a time such as 1970-01-01T00:00:00 is needed")
	}
	if m.Kernel == "" && m.Initrd+m.Append != "" {
		r.Fail("qemu.kernel", "", "initrd and append need a kernel")
	}
}

// onlyBench refuses what QEMU has no use for: whoever wrote it believes that it does something.
func (r *reader) onlyBench(rig *Rig) {
	for key, list := range map[string][]string{
		"power.on": rig.Power.On, "power.off": rig.Power.Off, "power.cut": rig.Power.Cut, "power.reset": rig.Power.Reset,
		"flash": rig.Flash, "stick.insert": rig.Stick.Insert, "stick.remove": rig.Stick.Remove, "network.up": rig.Network.Up, "network.down": rig.Network.Down,
	} {
		if len(list) > 0 {
			r.Fail(key, strings.Join(list, " "), "adapter qemu does this itself; take the key out")
		}
	}
	for key, text := range map[string]string{"console.device": rig.Console.Device, "console.socket": rig.Console.Socket, "network.here": rig.Network.Here, "network.gateway": rig.Network.Gateway} {
		if text != "" {
			r.Fail(key, text, "adapter qemu has its own; take the key out")
		}
	}
}

func (r *reader) bench(rig *Rig) {
	c := rig.Console
	switch {
	case (c.Device == "") == (c.Socket == ""):
		r.Fail("console", c.Device+c.Socket, "give device (a serial device or pseudo-terminal) or socket")
	case c.Socket != "" && !strings.HasPrefix(c.Socket, "unix:/") && !strings.HasPrefix(c.Socket, "tcp:"):
		r.Fail("console.socket", c.Socket, "unix:/path or tcp:host:port is allowed")
	}
	r.within("console.baud", c.Baud, 0, 4_000_000)
	for key, list := range map[string][]string{"power.on": rig.Power.On, "power.off": rig.Power.Off} {
		if len(list) == 0 {
			r.Fail(key, "", "a command is needed, as a list: [program, argument, …]")
		}
	}
	r.holds("flash", rig.Flash, "{image}")
	r.holds("exec", rig.Exec, "{command}")
	r.holds("stick.insert", rig.Stick.Insert, "{image}")
	if (len(rig.Stick.Insert) == 0) != (len(rig.Stick.Remove) == 0) {
		r.Fail("stick", "half", "give both insert and remove, or neither")
	}
	if (len(rig.Network.Up) == 0) != (len(rig.Network.Down) == 0) {
		r.Fail("network", "half", "give both up and down, or neither")
	}
	for key, text := range map[string]string{"network.here": rig.Network.Here, "network.gateway": rig.Network.Gateway} {
		if _, err := netip.ParseAddr(text); text != "" && err != nil {
			r.Fail(key, text, "an IP address is needed")
		}
	}
	if rig.QEMU.Machine != "" {
		r.Fail("qemu.machine", rig.QEMU.Machine, "only adapter qemu has a machine")
	}
}

// holds wants a word of a command to contain place, if there is a command.
func (r *reader) holds(key string, command []string, place string) {
	if len(command) > 0 && !slices.ContainsFunc(command, func(s string) bool { return strings.Contains(s, place) }) {
		r.Fail(key, strings.Join(command, " "), "one of its words has to contain "+place)
	}
}
