package target

import (
	"cmp"
	"os"
	"strconv"
	"strings"
)

// arguments is QEMU's command line. The machine waits for `cont`, so that nothing of the console is missed.
func (m *machine) arguments() []string {
	q := &m.rig.QEMU
	kind, firmware := []string{"-M", "virt,highmem=off", "-cpu", "cortex-a7"}, "/usr/lib/u-boot/qemu_arm/u-boot.bin" // without highmem=off no PCI device appears
	if q.Machine == "arm64" {
		kind, firmware = []string{"-M", "virt", "-cpu", "cortex-a53"}, "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
	}
	args := append(kind, "-accel", "tcg", "-m", strconv.Itoa(q.MemoryMiB), "-nodefaults", "-display", "none", "-S",
		"-qmp", "unix:"+m.socket("qmp")+",server=on,wait=off",
		"-chardev", "socket,id=console,path="+m.socket("console")+",server=on,wait=off", "-serial", "chardev:console",
		"-device", "virtio-serial-pci,id=ports",
		"-chardev", "socket,id=debug,path="+m.socket("debug")+",server=on,wait=off", "-device", "virtserialport,bus=ports.0,chardev=debug,name="+debugPort,
		"-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb",
		"-netdev", m.network(), "-device", "virtio-net-pci,id=nic,netdev=net,romfile=",
	)
	if q.RTC != "" {
		args = append(args, "-rtc", "base="+q.RTC)
	}
	if q.Watchdog == "i6300esb" {
		args = append(args, "-device", "i6300esb", "-action", "watchdog=reset")
	}
	if m.disk != "" {
		args = append(args, "-drive", drive(m.disk, q), "-device", "virtio-blk-pci,drive=disk")
	}
	if q.Kernel == "" {
		args = append(args, "-bios", cmp.Or(q.Firmware, firmware))
	} else {
		args = append(args, "-kernel", q.Kernel, "-append", q.Append)
		if q.Initrd != "" {
			args = append(args, "-initrd", q.Initrd)
		}
	}
	return append(append(args, m.serialLines()...), q.Args...)
}

// drive is the disk. A comma in a file's name is written twice.
func drive(disk string, q *Machine) string {
	name := func(path string) string { return strings.ReplaceAll(path, ",", ",,") }
	if q.WriteLog == "" {
		return "if=none,id=disk,format=raw,file=" + name(disk) + ",cache=" + q.Cache
	}
	// raw is on top, so that the flush behind a write of a guest that knows no flushes (U-Boot) is noted: by itself blklogwrites leaves out the first one (QEMU 7.2).
	return "if=none,id=disk,driver=raw,file.driver=blklogwrites,file.file.driver=file,file.file.filename=" + name(disk) +
		",file.log.driver=file,file.log.filename=" + name(q.WriteLog) + ",cache=" + q.Cache
}

// network is the user-mode network: only what is named passes.
func (m *machine) network() string {
	var b strings.Builder
	b.WriteString("user,id=net,restrict=on")
	for _, s := range m.services {
		// socat for each connection: a character device would be for one.
		b.WriteString(",guestfwd=tcp:" + s.guest + "-cmd:socat STDIO TCP:" + s.host)
	}
	for _, p := range m.ports {
		b.WriteString(",hostfwd=tcp:" + p.host + "-:" + p.guest)
	}
	return b.String()
}

// serialLines attaches the simulators that are there. A port of the board's called pci-… is an 8250 on PCI, all others are USB adapters.
func (m *machine) serialLines() (args []string) {
	for _, s := range m.rig.Simulators {
		if s.Kind != KindRTU {
			continue
		}
		path := m.socket(s.Name)
		if _, err := os.Stat(path); err != nil {
			continue // the scenario has no use for it
		}
		device := "usb-serial,bus=usb.0,chardev=" + s.Name
		if strings.HasPrefix(s.Port, "pci-") {
			device = "pci-serial,chardev=" + s.Name
		}
		args = append(args, "-chardev", "serial,id="+s.Name+",path="+path, "-device", device)
	}
	return args
}
