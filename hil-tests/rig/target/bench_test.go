package target_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/target"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

// bench opens a rig whose console is a pseudo-terminal with a shell at its other end, and whose commands write what they were told into a file.
func bench(t *testing.T, more string) (tg target.Target, told func() string) {
	t.Helper()
	dir := t.TempDir()
	line := linetest.OpenPTY(t)
	startShell(t, line, "sh")
	log := filepath.Join(dir, "told")
	text := fmt.Sprintf("name: b\nboard: generic-arm64\nadapter: bench\nconsole: {device: %s}\n", line.Path)
	tell := func(what string) string { return fmt.Sprintf("[sh, -c, 'echo %s >>%s']", what, log) }
	text += fmt.Sprintf("power: {on: %s, off: %s, pause: 1ms}\nflash: %s\n", tell("on"), tell("off"), tell("flash {image}"))
	rig, err := target.Parse("b.yaml", []byte(text+strings.ReplaceAll(more, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	if tg, err = target.Open(t.Context(), rig, target.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	})
	return tg, func() string {
		b, _ := os.ReadFile(log)
		return strings.Join(strings.Fields(string(b)), " ")
	}
}

// startShell runs a program at the far end of a line. It sees pipes: a shell that finds a terminal wants to control it, and stops its whole process group
// (the tests) while it does not.
func startShell(t *testing.T, line *linetest.PTY, name string, args ...string) {
	t.Helper()
	sh := exec.Command(name, args...)
	sh.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := sh.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := struct{ io.Writer }{line.Peer()}
	sh.Stdout, sh.Stderr = out, out
	if err := sh.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(in, line.Peer()) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-sh.Process.Pid, syscall.SIGKILL) // with what hangs on its outputs
		_ = sh.Wait()
	})
}

func TestBenchCommands(t *testing.T) {
	tg, told := bench(t, "stick: {insert: [sh, -c, 'test {image} = /stick.img'], remove: ['true']}\n")
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { return tg.Flash(ctx, "/some image.img") }, func() error { return tg.On(ctx) }, func() error { return tg.Cut(ctx) },
		func() error { return tg.On(ctx) }, func() error { return tg.Reset(ctx) }, func() error { return tg.Off(ctx) },
		func() error { return tg.InsertStick(ctx, "/stick.img") }, func() error { return tg.RemoveStick(ctx) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := told(), "flash /some image.img on off on off on off"; got != want {
		t.Errorf("commands: %s; want %s", got, want)
	}
	if err := tg.InsertStick(ctx, "/other.img"); err == nil || !strings.Contains(err.Error(), "stick.insert of rig b") {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := tg.Reach(ctx, "127.0.0.1:1"); !errors.Is(err, target.ErrUnsupported) {
		t.Errorf("Reach without an address: %v", err)
	}
	if _, _, err := tg.Line("line-9"); !errors.Is(err, target.ErrUnsupported) {
		t.Errorf("a line that is not there: %v", err)
	}
}

func TestExecOnTheConsole(t *testing.T) {
	tg, _ := bench(t, "")
	for _, c := range []struct {
		command, output string
		status          int
	}{
		{"echo one; echo two >&2", "one\ntwo", 0},
		{"exit 7", "", 7},
		{"cat", "", 0}, // reads nothing
		{"printf 'no newline'", "no newline", 0},
		{"echo 'END-SKERRY-1 0'\nfalse", "END-SKERRY-1 0", 1},
	} {
		res, err := tg.Exec(t.Context(), c.command)
		if err != nil || strings.TrimSuffix(res.Output, "\n") != c.output || res.Status != c.status {
			t.Errorf("%s: %+v, %v; want %q, status %d", c.command, res, err, c.output, c.status)
		}
	}
	if _, err := tg.Exec(t.Context(), strings.Repeat("x", 3000)); err == nil || !strings.Contains(err.Error(), "2000 are allowed") {
		t.Errorf("a long line: %v", err)
	}
	if _, err := target.Run(t.Context(), tg, "echo why; exit 3"); err == nil || !strings.Contains(err.Error(), "status 3: why") {
		t.Errorf("Run: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tg.Exec(ctx, "sleep 60"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
}

func TestExecByCommand(t *testing.T) {
	tg, _ := bench(t, "exec: [sh, -c, '{command}']\n")
	res, err := tg.Exec(t.Context(), "echo out; echo err >&2; exit 5")
	if err != nil || res.Output != "out\nerr" || res.Status != 5 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestConsole(t *testing.T) {
	tg, _ := bench(t, "")
	c := tg.Console()
	if _, err := c.Write([]byte("echo he''llo 42; echo second\n")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Expect(t.Context(), regexp.MustCompile(`hello (\d+)`)); err != nil || got[1] != "42" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := c.Expect(t.Context(), regexp.MustCompile(`second\r?\n`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Expect(ctx, regexp.MustCompile(`hello`))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "second") {
		t.Errorf("what has been seen is seen again, or the end of the console is not shown: %v", err)
	}
	c.Note("a remark")
	text, err := os.ReadFile(c.Transcript())
	if err != nil || !strings.Contains(string(text), "hello 42") || !strings.Contains(string(text), "a remark") {
		t.Errorf("transcript: %s, %v", text, err)
	}
	if tail := c.Tail(1); !strings.HasSuffix(tail, "a remark") {
		t.Errorf("the last line is %q", tail)
	}
}

func TestReachAndLink(t *testing.T) {
	tg, _ := bench(t, "network: {here: 127.0.0.1, gateway: 192.0.2.9}\n")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	at, err := tg.Reach(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := tg.Reach(t.Context(), ln.Addr().String()); err != nil || again != at {
		t.Errorf("the same service again: %s, %v", again, err)
	}
	echo := func() error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	}
	open, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := open.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := tg.Link(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("an open connection outlives the cut")
	}
	if echo() == nil {
		t.Error("a new connection passes the cut")
	}
	if err := tg.Link(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := echo(); err != nil {
		t.Errorf("after the cut: %v", err)
	}
	if host, err := tg.Forward(t.Context(), 22); err != nil || host != "192.0.2.9:22" {
		t.Errorf("Forward: %s, %v", host, err)
	}
}

// TestLine: a simulator's terminal, the rig's bridge, and the gateway at the other end of the line.
func TestLine(t *testing.T) {
	gateway, simulator := linetest.OpenPTY(t), linetest.OpenPTY(t)
	tg, _ := bench(t, "simulators: [{name: line-1, kind: modbus-rtu, port: rs485-1, adapter: "+gateway.Path+"}]\n")
	path, port, err := tg.Line("line-1")
	if err != nil || port != "rs485-1" {
		t.Fatalf("%s, %v", port, err)
	}
	if err := os.Symlink(simulator.Path, path); err != nil {
		t.Fatal(err)
	}
	if err := tg.On(t.Context()); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[*os.File]*os.File{gateway.Peer(): simulator.Peer(), simulator.Peer(): gateway.Peer()} {
		if _, err := from.Write([]byte{1, 3, 0, 0xff}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(to, got); err != nil || string(got) != "\x01\x03\x00\xff" {
			t.Errorf("% x, %v", got, err)
		}
	}
}

func TestKeep(t *testing.T) {
	tg, _ := bench(t, "exec: [sh, -c, 'echo state of the board; echo skerry-status 0 # {command}']\n")
	tg.Console().Note("something happened")
	dir := filepath.Join(t.TempDir(), "kept")
	if err := tg.Keep(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"board.txt": "state of the board", "b-console.log": "something happened"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s, %v", name, b, err)
		}
	}
}

// TestLogin: a terminal that asks who is there, with a shell behind it that has a prompt.
func TestLogin(t *testing.T) {
	const program = `while :; do printf 'gw login: '; read u; [ -n "$u" ] || continue; printf 'Password: '; read p
[ "$u$p" = rootsecret ] && break; echo 'Login incorrect'; done; PS1='# ' exec sh -i`
	for password, want := range map[string]string{"secret": "", "wrong": "are refused by the gateway"} {
		line := linetest.OpenPTY(t)
		startShell(t, line, "sh", "-c", program)
		dir := t.TempDir()
		rig, err := target.Parse("l.yaml", []byte("name: l\nboard: generic-arm64\nadapter: bench\nconsole: {device: "+line.Path+", user: root, password: "+password+"}\npower: {on: ['true'], off: ['true']}\n"))
		if err != nil {
			t.Fatal(err)
		}
		tg, err := target.Open(t.Context(), rig, target.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time there is a shell
			res, err := tg.Exec(t.Context(), "echo in; exit 4")
			switch {
			case want == "" && (err != nil || res.Output != "in\n" && res.Output != "in" || res.Status != 4):
				t.Errorf("%+v, %v", res, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("a wrong password: %v", err)
			}
		}
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
	}
}
