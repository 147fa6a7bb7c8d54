package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/rig/process"
	"github.com/skerry/skerry/hil-tests/rig/stack"
)

// The guest sees only these two addresses; QEMU hands what is sent there to the relay and to the Modbus peer.
const (
	guestRelay  = "10.0.2.100"
	guestModbus = "10.0.2.101"
	relayPort   = "7443"
	modbusPort  = "502"
	armPoints   = 50
)

// armModules are what a stock kernel needs for a virtio network card on PCI.
var armModules = []string{"virtio_pci", "virtio_mmio", "virtio_net"}

// memoryARM boots a whole ARMv7 machine with 128 MB and reads the agent's memory inside it.
func memoryARM(ctx context.Context, r *bench.Report, o options) (err error) {
	s, err := stack.Start(ctx, stack.Options{Bin: o.bin, Module: o.module, Node: "armv7", NoPods: true, Advertise: []string{guestRelay}, Say: o.say})
	if err != nil {
		return err
	}
	defer func() { err = joinStop(err, s) }()
	if err := s.StartRelay(ctx); err != nil {
		return err
	}
	w, err := newWorkload(ctx, s, o)
	if err != nil {
		return err
	}
	defer w.close()
	token, err := s.Ctl(ctx, "token", "create", "--node", s.Node)
	if err != nil {
		return err
	}
	g, err := bootGuest(ctx, w, token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.qemu.Kill()) }()

	o.say("waiting until the agent inside the machine is connected")
	line, err := g.wait(ctx, "connected=true", func(l guestLine) bool { return l.connected })
	if err != nil {
		return err
	}
	if line, err = g.settled(ctx, o); err != nil {
		return err
	}
	r.Add("skerryd_armv7_idle_pss_mb", line.pss, "MB")
	r.Add("skerryd_armv7_idle_rss_mb", line.rss, "MB")
	r.Add("armv7_mem_total_mb", line.total, "MB")
	r.Add("armv7_mem_available_mb", line.available, "MB")

	o.say("%d Modbus points at 1 s", armPoints)
	if err := w.createDeviceAt(ctx, "points", guestModbus, modbusPort, time.Second, armPoints); err != nil {
		return err
	}
	if _, err = g.wait(ctx, fmt.Sprintf("good=%d", armPoints), func(l guestLine) bool { return l.good == armPoints }); err != nil {
		return err
	}
	if line, err = g.settled(ctx, o); err != nil {
		return err
	}
	r.Add("skerryd_armv7_50pts_pss_mb", line.pss, "MB")
	r.Add("skerryd_armv7_50pts_rss_mb", line.rss, "MB")
	return nil
}

// guest is a running virtual machine.
type guest struct {
	qemu *process.Process
	log  string
	seen int // lines already read
}

type guestLine struct {
	pss, rss, total, available float64 // MB
	connected                  bool
	good                       int
}

func bootGuest(ctx context.Context, w *workload, token string) (*guest, error) {
	o, dir := w.opt, filepath.Join(w.stack.Dir, "armv7")
	kernel := filepath.Join(o.module, "build", "armv7-kernel")
	o.say("kernel and modules")
	if _, err := process.Output(ctx, process.Spec{Path: filepath.Join(o.module, "scripts", "arm-kernel.sh"), Args: append([]string{kernel}, armModules...)}); err != nil {
		return nil, err
	}
	if err := fillInitramfs(ctx, o, filepath.Join(dir, "root"), kernel, w.stack.Node, token); err != nil {
		return nil, err
	}
	o.say("packing the initramfs")
	archive := filepath.Join(dir, "initramfs")
	if _, err := process.Output(ctx, process.Spec{Path: "/bin/sh", Dir: filepath.Join(dir, "root"),
		Args: []string{"-ec", "find . | cpio --quiet -o -H newc -R 0:0 >" + archive}}); err != nil {
		return nil, err
	}
	forward := func(guestAddr, port, to string) string {
		host, p, _ := strings.Cut(to, ":")
		return fmt.Sprintf("guestfwd=tcp:%s:%s-cmd:socat - TCP:%s:%s", guestAddr, port, host, p)
	}
	g := &guest{log: filepath.Join(dir, "serial.log")}
	var err error
	g.qemu, err = process.Start(process.Spec{Name: "qemu", Path: "qemu-system-arm", Log: g.log, Args: []string{
		"-M", "virt,highmem=off", "-cpu", "cortex-a7", "-m", "128", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", archive,
		"-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init skerry.time=" + strconv.FormatInt(time.Now().Unix(), 10),
		"-netdev", "user,id=n,restrict=on," + forward(guestRelay, relayPort, w.stack.RelayAt) + "," + forward(guestModbus, modbusPort, w.modbus.Addr()),
		"-device", "virtio-net-pci,netdev=n,romfile=",
	}})
	if err != nil {
		return nil, fmt.Errorf("start the ARMv7 machine: %w", err)
	}
	return g, nil
}

func fillInitramfs(ctx context.Context, o options, root, kernel, node, token string) error {
	for _, d := range []string{"etc/skerry", "modules", "dev", "proc", "sys", "run", "tmp", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	o.say("building the machine's init")
	if _, err := process.Output(ctx, process.Spec{Path: "go", Dir: o.module, Env: []string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"},
		Args: []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(root, "init"), "./hil-tests/armguest"}}); err != nil {
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
	config := fmt.Sprintf("node: {name: %s}\nrelay: {addresses: [%q]}\n", node, guestRelay+":"+relayPort)
	return errors.Join(
		os.WriteFile(filepath.Join(root, "etc/skerry/skerryd.yaml"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(root, "token"), []byte(token), 0o600),
		os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("PRETTY_NAME=\"Skerry memory bench\"\n"), 0o644),
	)
}

// settled lets the agent run for a while and returns the line with the median PSS of the last ones.
func (g *guest) settled(ctx context.Context, o options) (guestLine, error) {
	// Emulation is about ten times slower than a board: it needs longer to come to rest.
	o.say("leaving the agent alone for %v", 2*o.settle)
	deadline := time.Now().Add(2 * o.settle)
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

var field = regexp.MustCompile(`(\w+)=(\S+)`)

// wait reads the serial console until a report satisfies ok.
func (g *guest) wait(ctx context.Context, what string, ok func(guestLine) bool) (guestLine, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		lines, err := g.newLines()
		if err != nil {
			return guestLine{}, err
		}
		for _, text := range lines {
			if strings.Contains(text, "SKERRY-FAILED") || strings.Contains(text, "Kernel panic") {
				return guestLine{}, fmt.Errorf("the ARMv7 machine failed: %s\n%s", text, g.qemu.LogTail(30))
			}
			if l, isReport := parseGuest(text); isReport && ok(l) {
				return l, nil
			}
		}
		select {
		case <-ctx.Done():
			return guestLine{}, fmt.Errorf("waiting for %s inside the ARMv7 machine: %w\n%s", what, ctx.Err(), g.qemu.LogTail(30))
		case <-g.qemu.Done():
			return guestLine{}, fmt.Errorf("the ARMv7 machine ended: %w\n%s", g.qemu.Err(), g.qemu.LogTail(30))
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (g *guest) newLines() ([]string, error) {
	f, err := os.Open(g.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	n := 0
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if n++; n > g.seen {
			out = append(out, s.Text())
		}
	}
	// The last line may still grow; it is read again.
	if len(out) > 0 {
		out = out[:len(out)-1]
		g.seen = n - 1
	}
	return out, s.Err()
}

func parseGuest(text string) (guestLine, bool) {
	_, text, ok := strings.Cut(text, "SKERRY ")
	if !ok {
		return guestLine{}, false
	}
	v := map[string]string{}
	for _, m := range field.FindAllStringSubmatch(text, -1) {
		v[m[1]] = m[2]
	}
	kb := func(name string) float64 {
		n, err := strconv.ParseFloat(v[name], 64)
		if err != nil {
			return 0
		}
		return n * 1024 / mb
	}
	good, _ := strconv.Atoi(v["good"])
	return guestLine{
		pss: kb("pss_kb"), rss: kb("rss_kb"), total: kb("mem_total_kb"), available: kb("mem_available_kb"),
		connected: v["connected"] == "true", good: good,
	}, true
}
