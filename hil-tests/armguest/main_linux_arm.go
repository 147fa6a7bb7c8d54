// Command armguest is PID 1 of the small ARMv7 machine in which the agent's memory is measured.
//
// The machine boots a stock kernel and an initramfs that holds this program, skerryd, its configuration and a join token.
// armguest loads the network driver, sets the address, joins, starts the agent and prints one line every two seconds:
//
//	SKERRY pss_kb=N rss_kb=N anon_kb=N connected=BOOL devices=N good=N mem_total_kb=N mem_available_kb=N
//
// The host reads these lines from the serial console. It must never return: a kernel without PID 1 panics, which is
// also how a failure here ends the machine.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/health"
)

const (
	agent  = "/skerryd"
	config = "/etc/skerry/skerryd.yaml"
	socket = "/run/skerry/skerryd.sock"
)

func main() {
	err := boot()
	fmt.Printf("SKERRY-FAILED %v\n", err)
	time.Sleep(time.Second) // let the serial line drain
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func boot() error {
	if err := mounts(); err != nil {
		return err
	}
	params := kernelParameters()
	if s, err := strconv.ParseInt(params["skerry.time"], 10, 64); err == nil {
		if err := unix.Settimeofday(&unix.Timeval{Sec: int32(s)}); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	for name, address := range map[string][4]byte{"lo": {127, 0, 0, 1}, "eth0": {10, 0, 2, 15}} {
		if err := interfaceUp(name, address); err != nil {
			return err
		}
	}
	if port := params["skerry.port"]; port != "" {
		if err := await(port); err != nil {
			return err
		}
	}
	if out, err := exec.Command(agent, "join", "-config", config, "-token-file", "/token").CombinedOutput(); err != nil {
		return fmt.Errorf("skerryd join: %w: %s", err, out)
	}
	run := exec.Command(agent, "run", "-config", config)
	run.Stdout, run.Stderr = os.Stdout, os.Stdout
	run.Env = []string{"PATH=/"}
	if err := run.Start(); err != nil {
		return fmt.Errorf("start skerryd: %w", err)
	}
	died := make(chan error, 1)
	go func() { died <- run.Wait() }()
	for {
		select {
		case err := <-died:
			return fmt.Errorf("skerryd ended: %w", err)
		case <-time.After(2 * time.Second):
			report(run.Process.Pid)
		}
	}
}

// await waits for a device that the kernel finds in its own time.
func await(path string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func report(pid int) {
	memory := fields(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	machine := fields("/proc/meminfo")
	var status struct {
		Link    struct{ Connected bool }
		Devices []struct{ Points, Good int }
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if body, err := health.Fetch(ctx, socket); err == nil {
		_ = json.Unmarshal(body, &status) // a line with zeros tells as much
	}
	good := 0
	for _, d := range status.Devices {
		good += d.Good
	}
	fmt.Printf("SKERRY pss_kb=%s rss_kb=%s anon_kb=%s connected=%v devices=%d good=%d mem_total_kb=%s mem_available_kb=%s\n",
		memory["Pss"], memory["Rss"], memory["Pss_Anon"], status.Link.Connected, len(status.Devices), good, machine["MemTotal"], machine["MemAvailable"])
}

// fields reads the "Name:  123 kB" lines of a file in /proc.
func fields(path string) map[string]string {
	out := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return out
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok {
			if words := strings.Fields(value); len(words) > 0 {
				out[name] = words[0]
			}
		}
	}
	return out
}

func mounts() error {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}, {"tmpfs", "/var"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}

func kernelParameters() map[string]string {
	out := map[string]string{}
	line, _ := os.ReadFile("/proc/cmdline")
	for _, word := range strings.Fields(string(line)) {
		name, value, _ := strings.Cut(word, "=")
		out[name] = value
	}
	return out
}

// loadModules inserts the modules of a folder in the order of their file names.
func loadModules(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

func interfaceUp(name string, address [4]byte) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat("/sys/class/net/" + name); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no network interface %s after 10 s", name)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	set := func(request uint, fill func(*unix.Ifreq) error) error {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := fill(ifr); err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, request, ifr)
	}
	if err := set(unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(address[:]) }); err != nil {
		return fmt.Errorf("address of %s: %w", name, err)
	}
	mask := []byte{255, 255, 255, 0}
	if err := set(unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask) }); err != nil {
		return fmt.Errorf("netmask of %s: %w", name, err)
	}
	return set(unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}
