package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/target"
	"github.com/skerry/skerry/hil-tests/simulator"
)

// Where the machine finds the relay and the Modbus peer: in the order in which they are named to the rig.
const (
	guestRelay    = "10.0.2.100"
	guestModbus   = "10.0.2.101"
	guestLinePort = "usb-1"
	guestPatience = 5 * time.Minute
)

// armModules are what a stock kernel needs for a virtio network card on PCI, and for QEMU's USB-serial adapter.
var armModules = []string{"virtio_pci", "virtio_mmio", "virtio_net", "xhci_pci", "ftdi_sio"}

// guestOptions are one machine.
type guestOptions struct {
	memoryMiB int
	budget    string // of the agent; empty: the board's
}

// guest is a running machine whose init reports every two seconds.
type guest struct {
	target target.Target
	line   *simulator.Simulator
	opt    options
	last   guestLine
	most   float64 // PSS, MB
}

type guestLine struct {
	pss, rss, total, available float64 // MB
	connected                  bool
	devices, good              int
}

// bootGuest starts a machine whose agent joins as the stack's node, and waits until it is connected.
func bootGuest(ctx context.Context, w *workload, g guestOptions) (_ *guest, err error) {
	o, name := w.opt, fmt.Sprintf("armv7-%d%s", g.memoryMiB, strings.ToLower(g.budget))
	dir, kernel := filepath.Join(w.stack.Dir, name), filepath.Join(o.module, "build", "armv7-kernel")
	o.say("kernel and modules")
	if _, err := process.Output(ctx, process.Spec{Path: filepath.Join(o.module, "scripts", "arm-kernel.sh"), Args: append([]string{kernel}, armModules...)}); err != nil {
		return nil, err
	}
	token, err := w.stack.Ctl(ctx, "token", "create", "--node", w.stack.Node)
	if err != nil {
		return nil, err
	}
	rig, err := target.QEMU("qemu-armv7")
	if err != nil {
		return nil, err
	}
	rig.Name, rig.QEMU.MemoryMiB = name, g.memoryMiB
	rig.QEMU.Kernel, rig.QEMU.Initrd = filepath.Join(kernel, "vmlinuz"), filepath.Join(dir, "initramfs")
	rig.QEMU.Append = "console=ttyAMA0 quiet panic=-1 rdinit=/init skerry.port=/dev/ttyUSB0 skerry.time=" + strconv.FormatInt(time.Now().Unix(), 10)
	rig.QEMU.Args = []string{"-no-reboot"}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &guest{opt: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.target, err = target.Open(ctx, rig, target.Options{Dir: dir}); err != nil {
		return nil, err
	}
	relay, err := m.target.Reach(ctx, w.stack.RelayAt)
	if err != nil {
		return nil, err
	}
	if _, err := m.target.Reach(ctx, w.modbus.Addr()); err != nil {
		return nil, err
	}
	path, _, err := m.target.Line("line-1")
	if err != nil {
		return nil, err
	}
	if m.line, err = simulator.Start(ctx, lineUnit(path), slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if err := packGuest(ctx, o, dir, kernel, guestFiles(w.stack.Node, relay, token, g.budget)); err != nil {
		return nil, err
	}
	o.say("booting an ARMv7 machine with %d MB", g.memoryMiB)
	if err := m.target.On(ctx); err != nil {
		return nil, err
	}
	_, err = m.wait(ctx, "connected=true", func(l guestLine) bool { return l.connected })
	return m, err
}

// guestFiles are the machine's configuration by path.
func guestFiles(node, relay, token, budget string) map[string]string {
	files := map[string]string{
		"etc/skerry/skerryd.yaml": fmt.Sprintf("node: {name: %s}\nrelay: {addresses: [%q]}\n", node, relay),
		"etc/os-release":          "PRETTY_NAME=\"Skerry memory bench\"\n",
		"token":                   token,
	}
	if budget != "" {
		files["etc/skerry/board.d/qemu-armv7.yaml"] = "extends: qemu-armv7\nmemory: {installed: 128Mi, budget: " + budget + "}\n"
	}
	return files
}

// packGuest makes dir/initramfs of init, the agent, the kernel's modules and files.
func packGuest(ctx context.Context, o options, dir, kernel string, files map[string]string) error {
	root := filepath.Join(dir, "root")
	for _, d := range []string{"modules", "dev", "proc", "sys", "run", "tmp", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if _, err := process.Output(ctx, process.Spec{Path: "go", Dir: o.module, Env: []string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"},
		Args: []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(root, "init"), "./hil-tests/armguest"}}); err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(kernel, "modules", "*.ko"))
	if err != nil {
		return err
	}
	copies := map[string]string{o.skerryd: "skerryd"}
	for _, m := range modules {
		copies[m] = filepath.Join("modules", filepath.Base(m))
	}
	for from, to := range copies {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, to), b, 0o755); err != nil {
			return err
		}
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600); err != nil {
			return err
		}
	}
	_, err = process.Output(ctx, process.Spec{Path: "/bin/sh", Dir: root, Args: []string{"-ec", "find . | cpio --quiet -o -H newc -R 0:0 >" + filepath.Join(dir, "initramfs")}})
	return err
}

func (g *guest) close() error {
	var errs []error
	if g.target != nil {
		errs = append(errs, g.target.Close())
	}
	if g.line != nil {
		errs = append(errs, g.line.Close())
	}
	return errors.Join(errs...)
}

// settled lets the agent run for a while and returns the line with the median PSS of the last ones.
func (g *guest) settled(ctx context.Context) (guestLine, error) {
	// Emulation is about ten times slower than a board: it needs longer to come to rest.
	g.opt.say("leaving the agent alone for %v", 2*g.opt.settle)
	deadline := time.Now().Add(2 * g.opt.settle)
	if _, err := g.wait(ctx, "time to pass", func(guestLine) bool { return time.Now().After(deadline) }); err != nil {
		return guestLine{}, err
	}
	var lines []guestLine
	if _, err := g.wait(ctx, "five lines", func(l guestLine) bool { lines = append(lines, l); return len(lines) == 5 }); err != nil {
		return guestLine{}, err
	}
	var pss []float64
	for _, l := range lines {
		pss = append(pss, l.pss)
	}
	median := bench.Median(pss)
	for _, l := range lines {
		if l.pss == median {
			return l, nil
		}
	}
	return lines[0], nil
}

var (
	field = regexp.MustCompile(`(\w+)=(\S+)`)
	// A report, or the end of the machine: hil-tests/armguest.
	guestReport = regexp.MustCompile(`SKERRY (pss_kb=[^\r\n]*)\r?\n|(SKERRY-FAILED[^\r\n]*|Kernel panic[^\r\n]*|Out of memory[^\r\n]*|oom-kill[^\r\n]*)\r?\n`)
)

// wait reads the console until a report satisfies ok.
func (g *guest) wait(ctx context.Context, what string, ok func(guestLine) bool) (guestLine, error) {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	for {
		found, err := g.target.Console().Expect(ctx, guestReport)
		if err != nil {
			return guestLine{}, fmt.Errorf("waiting for %s inside the ARMv7 machine: %w", what, err)
		}
		if found[2] != "" {
			return guestLine{}, fmt.Errorf("the ARMv7 machine failed: %s\n%s", found[2], g.target.Console().Tail(30))
		}
		g.last = parseGuest(found[1])
		g.most = max(g.most, g.last.pss)
		if ok(g.last) {
			return g.last, nil
		}
	}
}

// parseGuest reads a report of hil-tests/armguest.
func parseGuest(text string) guestLine {
	v := map[string]string{}
	for _, m := range field.FindAllStringSubmatch(text, -1) {
		v[m[1]] = m[2]
	}
	number := func(name string) float64 {
		n, err := strconv.ParseFloat(v[name], 64)
		if err != nil {
			return 0 // a line with noise in it: the next one counts
		}
		return n
	}
	return guestLine{
		pss: number("pss_kb") * 1024 / mb, rss: number("rss_kb") * 1024 / mb, total: number("mem_total_kb") * 1024 / mb, available: number("mem_available_kb") * 1024 / mb,
		connected: v["connected"] == "true", devices: int(number("devices")), good: int(number("good")),
	}
}
