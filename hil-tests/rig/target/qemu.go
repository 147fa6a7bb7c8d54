package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

// debugPort is the port of a shell in images for QEMU's boards.
const debugPort = "org.skerry.debug"

// What QEMU tells by itself (docs/interop/qmp-spec.rst and qapi/run-state.json of QEMU).
const (
	EventReset    = "RESET"
	EventShutdown = "SHUTDOWN"
	EventWatchdog = "WATCHDOG"
)

// machine is a Target in QEMU.
type machine struct {
	rig     *Rig
	opt     Options
	sockets string // a short path: sockets' names have at most 107 bytes
	disk    string // "" until Flash
	console *Console
	debug   *Console
	shell   *shell

	services []service // Reach
	ports    []service // Forward

	proc   *process.Process // nil while it is off
	qmp    *qmp
	events *events
	starts int
}

// service is a port of one side, and where the other side finds it.
type service struct {
	guest string // host:port in the machine's network
	host  string // host:port here
}

func openMachine(rig *Rig, o Options) (_ Target, err error) {
	m := &machine{rig: rig, opt: o, events: newEvents()}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.sockets, err = os.MkdirTemp("", "rig"); err != nil {
		return nil, fmt.Errorf("folder of the machine's sockets: %w", err)
	}
	if m.console, err = newConsole(m.path("console.log")); err != nil {
		return nil, err
	}
	if m.debug, err = newConsole(m.path("debug.log")); err != nil {
		return nil, err
	}
	m.shell = &shell{console: m.debug}
	if rig.Console.User != "" {
		m.shell = &shell{console: m.console, user: rig.Console.User, pass: rig.Console.Password}
	}
	return m, nil
}

func (m *machine) path(name string) string   { return filepath.Join(m.opt.Dir, m.rig.Name+"-"+name) }
func (m *machine) socket(name string) string { return filepath.Join(m.sockets, name) }

// Rig implements Target.
func (m *machine) Rig() *Rig { return m.rig }

// Console implements Target.
func (m *machine) Console() *Console { return m.console }

// Disk is the path of the disk, "" before Flash. It may be looked at while the machine is off.
func (m *machine) Disk() string { return m.disk }

// Events tells how often QEMU has told of something since Open.
func (m *machine) Events(name string) int { return m.events.count(name) }

// AwaitEvent waits until QEMU has told of something n times in all.
func (m *machine) AwaitEvent(ctx context.Context, name string, n int) error {
	return m.events.await(ctx, name, n)
}

// Flash implements Target.
func (m *machine) Flash(ctx context.Context, image string) error {
	if m.proc != nil {
		return errors.New("the machine is on: switch it off before its disk is written")
	}
	disk := m.path("disk.img")
	if err := copyFile(ctx, image, disk); err != nil {
		return fmt.Errorf("write %s to the machine's disk: %w", image, err)
	}
	m.disk = disk
	if size := int64(m.rig.QEMU.DiskMiB) << 20; size > 0 {
		if err := os.Truncate(disk, size); err != nil {
			return fmt.Errorf("grow the machine's disk: %w", err)
		}
	}
	return nil
}

// On implements Target.
func (m *machine) On(ctx context.Context) (err error) {
	if m.running() {
		return nil
	}
	if err := m.Cut(ctx); err != nil { // what is left of one that ended by itself
		return err
	}
	m.starts++
	m.console.Note("power on (%d)", m.starts)
	program := "qemu-system-arm"
	if m.rig.QEMU.Machine == "arm64" {
		program = "qemu-system-aarch64"
	}
	if log := m.rig.QEMU.WriteLog; log != "" {
		if err := os.WriteFile(log, nil, 0o600); err != nil { // QEMU wants it to be there
			return fmt.Errorf("log of the disk's writes: %w", err)
		}
	}
	m.proc, err = process.Start(process.Spec{Name: "qemu", Path: program, Args: m.arguments(), Log: m.path("qemu.log")})
	if err != nil {
		return fmt.Errorf("start the machine: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Cut(ctx))
		}
	}()
	for name, attach := range map[string]func(net.Conn) error{
		"qmp":     func(c net.Conn) (err error) { m.qmp, err = dialQMP(ctx, c, m.events.add); return err },
		"console": func(c net.Conn) error { m.console.attach(c); return nil },
		"debug":   func(c net.Conn) error { m.debug.attach(c); return nil },
	} {
		conn, err := m.dial(ctx, name)
		if err != nil {
			return err
		}
		if err := attach(conn); err != nil {
			return err
		}
	}
	m.shell.booted()
	if _, err := m.qmp.do(ctx, "cont", nil); err != nil {
		return err
	}
	return nil
}

// dial connects to a socket of a machine that has just been started.
func (m *machine) dial(ctx context.Context, name string) (conn net.Conn, err error) {
	err = process.WaitReady(ctx, m.proc, "QEMU's socket "+name+" is there", nil, func(ctx context.Context) error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", m.socket(name))
		return err
	})
	return conn, err
}

func (m *machine) running() bool {
	if m.proc == nil {
		return false
	}
	select {
	case <-m.proc.Done():
		return false
	default:
		return true
	}
}

// Off implements Target.
func (m *machine) Off(ctx context.Context) error {
	if !m.running() {
		return m.Cut(ctx)
	}
	m.console.Note("power off")
	_, err := m.qmp.do(ctx, "quit", nil)
	if err == nil {
		err = m.proc.Wait(ctx)
	}
	return errors.Join(err, m.Cut(ctx))
}

// AwaitOff waits until the machine has switched itself off.
func (m *machine) AwaitOff(ctx context.Context) error {
	if m.proc == nil {
		return nil
	}
	return m.proc.Wait(ctx)
}

// Cut implements Target: QEMU is killed. What the disk's cache mode leaves with this computer's kernel is not lost by that.
func (m *machine) Cut(context.Context) error {
	if m.proc == nil {
		return nil
	}
	if m.running() {
		m.console.Note("power cut")
	}
	err := m.proc.Kill()
	m.proc = nil
	m.console.detach()
	m.debug.detach()
	if m.qmp != nil {
		_ = m.qmp.close() // its other end is dead
		m.qmp = nil
	}
	return err
}

// Reset implements Target.
func (m *machine) Reset(ctx context.Context) error {
	if err := m.mustRun(); err != nil {
		return err
	}
	m.console.Note("reset")
	m.shell.booted()
	_, err := m.qmp.do(ctx, "system_reset", nil)
	return err
}

func (m *machine) mustRun() error {
	if !m.running() {
		return errors.New("the machine is off")
	}
	return nil
}

// Exec implements Target.
func (m *machine) Exec(ctx context.Context, command string) (Result, error) {
	if err := m.mustRun(); err != nil {
		return Result{}, err
	}
	return m.shell.Exec(ctx, command)
}

// firstService is the last byte of the address, in the machine's network 10.0.2.0/24, of the first service that Reach names.
const firstService = 100

// Reach implements Target.
func (m *machine) Reach(_ context.Context, address string) (string, error) {
	if i := slices.IndexFunc(m.services, func(s service) bool { return s.host == address }); i >= 0 {
		return m.services[i].guest, nil
	}
	if m.proc != nil {
		return "", errors.New("QEMU has to know before the machine is on what it shall reach")
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("service for the machine: %w", err)
	}
	guest := net.JoinHostPort("10.0.2."+strconv.Itoa(firstService+len(m.services)), port)
	m.services = append(m.services, service{guest, address})
	return guest, nil
}

// Forward implements Target.
func (m *machine) Forward(ctx context.Context, port int) (string, error) {
	guest := strconv.Itoa(port)
	if i := slices.IndexFunc(m.ports, func(s service) bool { return s.guest == guest }); i >= 0 {
		return m.ports[i].host, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("a port for the machine: %w", err)
	}
	host := ln.Addr().String()
	ln.Close()
	if m.running() {
		if out, err := m.qmp.human(ctx, "hostfwd_add net tcp:"+host+"-:"+guest); err != nil || out != "" {
			return "", fmt.Errorf("forward port %d: %w: %s", port, err, out)
		}
	}
	m.ports = append(m.ports, service{guest, host})
	return host, nil
}

// Link implements Target.
func (m *machine) Link(ctx context.Context, up bool) error {
	if err := m.mustRun(); err != nil {
		return err
	}
	m.console.Note("network cable in: %v", up)
	_, err := m.qmp.do(ctx, "set_link", map[string]any{"name": "nic", "up": up})
	return err
}

// Line implements Target.
func (m *machine) Line(name string) (path, port string, err error) {
	s, err := m.rig.simulator(name)
	return m.socket(name), s.Port, err
}

// InsertStick implements Target.
func (m *machine) InsertStick(ctx context.Context, image string) error {
	if err := m.mustRun(); err != nil {
		return err
	}
	image, err := filepath.Abs(image)
	if err != nil {
		return fmt.Errorf("content of the USB stick: %w", err)
	}
	m.console.Note("USB stick in: %s", image)
	file := map[string]any{"driver": "file", "filename": image}
	if _, err := m.qmp.do(ctx, "blockdev-add", map[string]any{"driver": "raw", "node-name": "stick-data", "file": file}); err != nil {
		return err
	}
	_, err = m.qmp.do(ctx, "device_add", map[string]any{"driver": "usb-storage", "id": "stick", "drive": "stick-data", "bus": "usb.0", "removable": true})
	return err
}

// RemoveStick implements Target.
func (m *machine) RemoveStick(ctx context.Context) error {
	if err := m.mustRun(); err != nil {
		return err
	}
	m.console.Note("USB stick out")
	gone := m.events.count("DEVICE_DELETED") + 1
	if _, err := m.qmp.do(ctx, "device_del", map[string]any{"id": "stick"}); err != nil {
		return err
	}
	if err := m.events.await(ctx, "DEVICE_DELETED", gone); err != nil {
		return err
	}
	_, err := m.qmp.do(ctx, "blockdev-del", map[string]any{"node-name": "stick-data"})
	return err
}

// Close implements Target.
func (m *machine) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	errs := []error{m.Cut(ctx)}
	for _, c := range []*Console{m.console, m.debug} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	if m.sockets != "" {
		errs = append(errs, os.RemoveAll(m.sockets))
	}
	return errors.Join(errs...)
}
