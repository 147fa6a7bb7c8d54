package target

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// fakeQEMU answers commands with what answer says; it is not QEMU, only its way of speaking.
func fakeQEMU(t *testing.T, greeting string, answer func(command string) string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { there.Close() })
	go func() {
		_, _ = io.WriteString(there, greeting)
		for in := bufio.NewScanner(there); in.Scan(); {
			if _, err := io.WriteString(there, answer(in.Text())); err != nil {
				return
			}
		}
	}()
	return here
}

const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\r\n"

func TestQMP(t *testing.T) {
	events := newEvents()
	conn := fakeQEMU(t, greeting, func(command string) string {
		switch {
		case strings.Contains(command, "qmp_capabilities"):
			return `{"return": {}}` + "\r\n"
		case strings.Contains(command, `"human-monitor-command","arguments":{"command-line":"info status"}`):
			return `{"event": "RESET", "data": {"guest": true}}` + "\r\n" + `{"return": "VM status: running\r\n"}` + "\r\n"
		default:
			return `{"error": {"class": "CommandNotFound", "desc": "no such command"}}` + "\r\n"
		}
	})
	q, err := dialQMP(t.Context(), conn, events.add)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.close() }()
	if text, err := q.human(t.Context(), "info status"); err != nil || text != "VM status: running\r\n" {
		t.Errorf("%q, %v", text, err)
	}
	if n := events.count("RESET"); n != 1 {
		t.Errorf("%d resets were told", n)
	}
	if err := events.await(t.Context(), "RESET", 1); err != nil {
		t.Error(err)
	}
	if _, err := q.do(t.Context(), "fly", nil); err == nil || !strings.Contains(err.Error(), "fly: CommandNotFound: no such command") {
		t.Errorf("a command that QEMU does not know: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := events.await(ctx, "RESET", 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an event that does not come: %v", err)
	}
}

func TestQMPEnds(t *testing.T) {
	here, there := net.Pipe()
	there.Close()
	if _, err := dialQMP(t.Context(), here, newEvents().add); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("QEMU ends before it greets: %v", err)
	}
	silent := fakeQEMU(t, greeting, func(command string) string {
		if strings.Contains(command, "qmp_capabilities") {
			return `{"return": {}}` + "\r\n"
		}
		return ""
	})
	q, err := dialQMP(t.Context(), silent, newEvents().add)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := q.do(ctx, "stop", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("QEMU hangs: %v", err)
	}
	if _, err := q.do(t.Context(), "cont", nil); err == nil {
		t.Error("the answer to an earlier command is taken for this one's")
	}
	_ = q.close()
}

func TestArguments(t *testing.T) {
	rig, err := QEMU("qemu-armv7")
	if err != nil {
		t.Fatal(err)
	}
	rig.QEMU.RTC, rig.QEMU.Cache = "1970-01-01T00:00:00", "none"
	tg, err := Open(t.Context(), rig, Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tg.Close() }()
	m := tg.(*machine)
	if at, err := tg.Reach(t.Context(), "127.0.0.1:7443"); err != nil || at != "10.0.2.100:7443" {
		t.Errorf("Reach: %s, %v", at, err)
	}
	if at, err := tg.Reach(t.Context(), "127.0.0.1:4840"); err != nil || at != "10.0.2.101:4840" {
		t.Errorf("Reach: %s, %v", at, err)
	}
	m.disk = "/a,b.img"
	line := " " + strings.Join(m.arguments(), " ") + " "
	for _, want := range []string{
		" -M virt,highmem=off -cpu cortex-a7 ", " -accel tcg ", " -m 256 ", " -S ", " -bios /usr/lib/u-boot/qemu_arm/u-boot.bin ", " -device i6300esb ",
		"restrict=on,guestfwd=tcp:10.0.2.100:7443-cmd:socat STDIO TCP:127.0.0.1:7443,guestfwd=tcp:10.0.2.101:4840-cmd:", "file=/a,,b.img,cache=none", " -rtc base=1970-01-01T00:00:00 ",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
	if strings.Contains(line, "usb-serial") {
		t.Error("a line without a simulator is attached")
	}
	if _, err := tg.Exec(t.Context(), "true"); err == nil || !strings.Contains(err.Error(), "the machine is off") {
		t.Errorf("a command for a machine that is off: %v", err)
	}
}
