package board

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Descriptor is what one kind of board has, and how Skerry uses it. The yaml names are the keys of a board's file, which docs/boards.md
// explains. A Descriptor that [Library.Load] or [Parse] returned is valid; nobody changes it.
type Descriptor struct {
	Name          string      `yaml:"name"`
	Title         string      `yaml:"title"`
	Extends       string      `yaml:"extends"`
	Match         Match       `yaml:"match"`
	Architectures []string    `yaml:"architectures"` // in Go's spelling; images are made for the first
	GOARM         int         `yaml:"goarm"`         // 0: not for arm
	Memory        Memory      `yaml:"memory"`
	Storage       *Storage    `yaml:"storage"`
	Image         *Image      `yaml:"image"` // nil: no image can be made
	Serial        []Serial    `yaml:"serial"`
	CAN           []CAN       `yaml:"can"`
	GPIO          []GPIO      `yaml:"gpio"`
	LEDs          []LED       `yaml:"leds"`
	Watchdog      *Watchdog   `yaml:"watchdog"`
	RTC           *RTC        `yaml:"rtc"`
	TPM           *TPM        `yaml:"tpm"`
	Network       []Interface `yaml:"network"`
	Node          Node        `yaml:"node"`
	Console       *Console    `yaml:"console"`
	// Source is the file that the descriptor was read from, or BuiltIn.
	Source string `yaml:"-"`
}

// BuiltIn is the Source of the boards that are compiled in.
const BuiltIn = "built in"

// Match says by what a board is recognised. Patterns may end with a star.
type Match struct {
	DeviceTree []string `yaml:"deviceTree"` // strings of the root node's compatible property
	DMI        []DMI    `yaml:"dmi"`
}

// DMI is what firmware with DMI tables says: sys_vendor and product_name.
type DMI struct {
	Vendor  string `yaml:"vendor"`
	Product string `yaml:"product"`
}

// Memory is the machine's and the agent's.
type Memory struct {
	Installed Size `yaml:"installed"` // the least that this board is sold with
	Budget    Size `yaml:"budget"`    // what the agent may take in all (PSS)
}

// Storage is the disk with the system.
type Storage struct {
	Disk        string      `yaml:"disk"`
	Table       string      `yaml:"table"`
	Bootloader  string      `yaml:"bootloader"`
	Partitions  []Partition `yaml:"partitions"` // empty: the layout is not ours
	Slots       []Slot      `yaml:"slots"`      // empty: the system is not updated by Skerry
	Environment []string    `yaml:"environment"`
	Data        string      `yaml:"data"`
}

// Partition is one partition of our images, by the name that it has in the partition table.
type Partition struct {
	Name       string `yaml:"name"`
	Filesystem string `yaml:"filesystem"`
	Size       Size   `yaml:"size"` // 0: what is left
	Mount      string `yaml:"mount"`
}

// Slot is one of the two systems that updates alternate between. Boot and Root are names of partitions.
type Slot struct {
	Name string `yaml:"name"`
	Boot string `yaml:"boot"`
	Root string `yaml:"root"`
}

// Image is what an image of the board is made of, beside what every image has (board/image). Only boards that have booted one have it.
type Image struct {
	Kernel  string   `yaml:"kernel"`  // Debian's package that depends on the newest kernel
	Initrd  []string `yaml:"initrd"`  // modules that find the disk, with what they need; a question mark behind: if the kernel has it
	Modules []string `yaml:"modules"` // further modules, or folders of them, for the root
	Limit   Size     `yaml:"limit"`   // of what one slot takes: kernel, initrd and root
	Debug   bool     `yaml:"debug"`   // a root shell for the test rig on a virtio port
}

// Serial is a serial port.
type Serial struct {
	Name       string   `yaml:"name"`
	Devices    []string `yaml:"devices"` // the paths that it has on one system or another; the first that is there counts
	Kind       string   `yaml:"kind"`
	Mode       string   `yaml:"mode"`       // of RS-485: who switches the transmitter, as devices' field rs485
	Terminator string   `yaml:"terminator"` // who connects the resistor at the end of the line
	Optional   bool     `yaml:"optional"`
	Note       string   `yaml:"note"`
}

// Path returns the path that the port has on this machine: the first of its devices that is there below root, else the first.
func (s *Serial) Path(root string) string {
	for _, p := range s.Devices {
		if _, err := os.Stat(filepath.Join(root, p)); err == nil {
			return p
		}
	}
	return s.Devices[0]
}

// CAN is a CAN controller.
type CAN struct {
	Name       string `yaml:"name"`
	Interface  string `yaml:"interface"`
	Bitrate    int    `yaml:"bitrate"` // bits per second
	Terminator string `yaml:"terminator"`
	Optional   bool   `yaml:"optional"`
	Note       string `yaml:"note"`
}

// GPIO is a line of a GPIO controller.
type GPIO struct {
	Name      string `yaml:"name"`
	Chip      string `yaml:"chip"` // its label, or gpiochipN
	Line      int    `yaml:"line"`
	Direction string `yaml:"direction"`
	ActiveLow bool   `yaml:"activeLow"`
	Optional  bool   `yaml:"optional"`
	Note      string `yaml:"note"`
}

// LED is a light that Linux knows.
type LED struct {
	Name     string   `yaml:"name"`
	Devices  []string `yaml:"devices"` // names in /sys/class/leds; the first that is there counts
	Color    string   `yaml:"color"`
	Use      string   `yaml:"use"`
	Optional bool     `yaml:"optional"`
	Note     string   `yaml:"note"`
}

// Watchdog is the hardware watchdog.
type Watchdog struct {
	Device   string        `yaml:"device"`
	Identity string        `yaml:"identity"` // what its driver calls it; empty: any
	Timeout  time.Duration `yaml:"timeout"`  // that the agent asks for
	Longest  time.Duration `yaml:"longest"`  // that the hardware can; 0: not known
	Optional bool          `yaml:"optional"`
	Note     string        `yaml:"note"`
}

// RTC is the real-time clock.
type RTC struct {
	Device   string `yaml:"device"`
	Battery  bool   `yaml:"battery"` // it runs on without power
	Optional bool   `yaml:"optional"`
	Note     string `yaml:"note"`
}

// TPM is a TPM 2.0.
type TPM struct {
	Device   string `yaml:"device"`
	Optional bool   `yaml:"optional"`
	Note     string `yaml:"note"`
}

// Interface is a network interface.
type Interface struct {
	Name      string `yaml:"name"`
	Interface string `yaml:"interface"`
	Kind      string `yaml:"kind"`
	Optional  bool   `yaml:"optional"`
	Note      string `yaml:"note"`
}

// Node are the defaults of the Kubernetes node. What the agent's configuration says wins.
type Node struct {
	Labels map[string]string `yaml:"labels"`
	Taints []string          `yaml:"taints"` // KEY=VALUE:EFFECT or KEY:EFFECT
}

// Console is the kernel's serial console.
type Console struct {
	Device string `yaml:"device"` // as in console=, without /dev/
	Baud   int    `yaml:"baud"`
}

// Size is an amount of memory or disk in bytes. In a file: a number, or one with the suffix Ki, Mi or Gi.
type Size int64

// String gives the largest unit that loses nothing.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

type sizeUnit struct {
	suffix string
	size   Size
}

func sizeUnits() []sizeUnit { return []sizeUnit{{"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}} }
