package serialline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skerry/skerry/mappers/serialline"
	"github.com/skerry/skerry/mappers/serialline/linetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg serialline.Config) *serialline.Port {
	t.Helper()
	p, err := serialline.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func mustRead(t *testing.T, l serialline.Line, want string) {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) < len(want) {
		buf := make([]byte, len(want)-len(got))
		n, err := l.Read(buf)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	if string(got) != want {
		t.Fatalf("read %q, want %q", got, want)
	}
}

func mustWrite(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := w.Write([]byte(text)); err != nil || n != len(text) {
		t.Fatalf("write %q: %d, %v", text, n, err)
	}
}

// TestBytesPassUnchanged: nothing of what a terminal does to bytes may happen on a line.
func TestBytesPassUnchanged(t *testing.T) {
	pty := linetest.OpenPTY(t)
	for _, cfg := range []serialline.Config{
		{Path: pty.Path},
		{Path: pty.Path, Baud: 115200, Parity: serialline.ParityEven},
		{Path: pty.Path, Baud: 300, DataBits: 7, StopBits: 2, Parity: serialline.ParityOdd},
	} {
		p, err := serialline.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		mustWrite(t, p, string(all))
		got := make([]byte, 256)
		if _, err := io.ReadFull(pty.Peer(), got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: sent bytes arrive as % x, %v", cfg, got, err)
		}
		mustWrite(t, pty.Peer(), string(all))
		mustRead(t, p, string(all))
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := p.Read(got); !errors.Is(err, serialline.ErrGone) {
			t.Errorf("Read after Close: %v", err)
		}
	}
}

func TestDeadlinesAndInterruptions(t *testing.T) {
	pty := linetest.OpenPTY(t)
	p := open(t, serialline.Config{Path: pty.Path})
	buf := make([]byte, 8)
	if err := p.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read past its deadline: %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := serialline.ReadContext(ctx, p, buf); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ReadContext: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := serialline.ReadContext(ctx, p, buf); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadContext: %v", err)
	}
	mustWrite(t, pty.Peer(), "alive")
	if n, err := serialline.ReadContext(t.Context(), p, buf); err != nil || string(buf[:n]) != "alive" {
		t.Errorf("%q %v", buf[:n], err)
	}
	if err := p.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { _ = p.Close() })
	if _, err := p.Read(buf); !errors.Is(err, serialline.ErrGone) {
		t.Errorf("a Read that Close interrupted: %v", err)
	}
}

func TestDiscardForgetsWhatCameBefore(t *testing.T) {
	pty := linetest.OpenPTY(t)
	p := open(t, serialline.Config{Path: pty.Path})
	mustWrite(t, pty.Peer(), "late reply")
	mustRead(t, p, "late")
	if n, err := p.Discard(); err != nil || n > len(" reply") {
		t.Errorf("Discard: %d, %v", n, err)
	}
	mustWrite(t, pty.Peer(), "fresh")
	mustRead(t, p, "fresh")
}

func TestPortIsExclusive(t *testing.T) {
	pty := linetest.OpenPTY(t)
	open(t, serialline.Config{Path: pty.Path})
	_, err := serialline.Open(serialline.Config{Path: pty.Path, Baud: 1200})
	var oe *serialline.OpenError
	if !errors.As(err, &oe) || !strings.Contains(err.Error(), "another device of this agent") {
		t.Errorf("second open within the process: %v", err)
	}
	target, err := filepath.EvalSymlinks(pty.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = serialline.Open(serialline.Config{Path: target}); !errors.As(err, &oe) {
		t.Errorf("second open under another name: %v", err)
	}
}

// TestOtherProgramIsNamed: a program that locks the port as serial programs do is named with its process id.
func TestOtherProgramIsNamed(t *testing.T) {
	pty := linetest.OpenPTY(t)
	other := exec.CommandContext(t.Context(), "flock", "-n", pty.Path, "sh", "-c", "echo locked; read -r line")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	_, err = serialline.Open(serialline.Config{Path: pty.Path})
	if err == nil || !strings.Contains(err.Error(), "in use by") || !strings.Contains(err.Error(), "(process ") {
		t.Errorf("a locked port: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	_ = other.Wait() // read ends with an error at the end of its input
	open(t, serialline.Config{Path: pty.Path})
}

// TestTerminalOfAPersonIsNotOpened: neither a getty's port nor an administrator's terminal is a device.
func TestTerminalOfAPersonIsNotOpened(t *testing.T) {
	pty := linetest.OpenPTY(t)
	slave, err := os.OpenFile(pty.Path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	login := exec.CommandContext(t.Context(), "sleep", "60")
	login.Stdin = slave
	login.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	_, err = serialline.Open(serialline.Config{Path: pty.Path})
	if want := fmt.Sprintf("is the terminal of sleep (process %d)", login.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := login.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = login.Wait() // it was killed
	open(t, serialline.Config{Path: pty.Path})
}

func TestWhatIsNotAPortIsNotOpened(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file: "is not a serial port", dir: "is not a serial port", "/dev/null": "is not a serial port", "/dev/ptmx": "is not a serial port",
		"/dev/tty": "is not a serial port", filepath.Join(dir, "ttyUSB9"): "is the adapter plugged in?",
	} {
		_, err := serialline.Open(serialline.Config{Path: path})
		var oe *serialline.OpenError
		if !errors.As(err, &oe) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestWhatThePortCannotDoIsSaid: pseudo-terminals have neither RS-485 nor modem lines.
func TestWhatThePortCannotDoIsSaid(t *testing.T) {
	pty := linetest.OpenPTY(t)
	for _, c := range []struct {
		cfg  serialline.Config
		want string
	}{
		{serialline.Config{Direction: serialline.DirectionKernel}, "TIOCSRS485"},
		{serialline.Config{Direction: serialline.DirectionRTS}, "no RTS line"},
	} {
		c.cfg.Path = pty.Path
		if _, err := serialline.Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	open(t, serialline.Config{Path: pty.Path, HardwareFlow: true}) // and what failed has let go of the port
}

func TestUnplugAndReplug(t *testing.T) {
	pty := linetest.OpenPTY(t)
	k := serialline.NewKeeper(func() (serialline.Line, error) {
		p, err := serialline.Open(serialline.Config{Path: pty.Path})
		if err != nil {
			return nil, err
		}
		return p, nil
	})
	defer k.Drop()
	line, err := k.Line()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, pty.Unplug)
	if _, err := line.Read(make([]byte, 1)); !errors.Is(err, serialline.ErrGone) || !strings.Contains(err.Error(), "unplugged") {
		t.Errorf("Read of an unplugged port: %v", err)
	}
	if _, err := line.Write([]byte("x")); !errors.Is(err, serialline.ErrGone) {
		t.Errorf("Write to an unplugged port: %v", err)
	}
	k.Drop()
	if _, err := k.Line(); err == nil || !strings.Contains(err.Error(), "plugged in?") {
		t.Errorf("a port that is not there: %v", err)
	}
	if !k.RetryAt().After(time.Now()) {
		t.Error("no back-off")
	}
	pty.Replug()
	if _, err := k.Line(); err == nil {
		t.Error("the back-off was not obeyed")
	}
	time.Sleep(time.Until(k.RetryAt()))
	if line, err = k.Line(); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, pty.Peer(), "back")
	mustRead(t, line, "back")
	if k.Opened() != 2 {
		t.Errorf("opened %d times", k.Opened())
	}
}

// echoing answers everything with what change makes of it.
func echoing(t *testing.T, pty *linetest.PTY, change func([]byte) []byte) {
	t.Helper()
	peer, done := pty.Peer(), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64)
		for {
			n, err := peer.Read(buf)
			if err != nil {
				return
			}
			if _, err := peer.Write(change(buf[:n])); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		pty.Unplug()
		<-done
	})
}

func TestEchoIsSwallowed(t *testing.T) {
	pty := linetest.OpenPTY(t)
	echoing(t, pty, func(b []byte) []byte { return append(bytes.Clone(b), "reply"...) })
	p := open(t, serialline.Config{Path: pty.Path, Echo: true})
	if err := p.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, p, "request")
	mustRead(t, p, "reply")
}

func TestWrongEchoIsAnError(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"collision": func(b []byte) []byte { b[1] ^= 4; return b },
		"silence":   func([]byte) []byte { return nil },
		"short":     func(b []byte) []byte { return b[:len(b)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			pty := linetest.OpenPTY(t)
			echoing(t, pty, change)
			p := open(t, serialline.Config{Path: pty.Path, Echo: true})
			if _, err := p.Write([]byte("request")); !errors.Is(err, serialline.ErrEcho) {
				t.Error(err)
			}
		})
	}
}

func TestCaptureIsReadableAndBounded(t *testing.T) {
	pty, dir := linetest.OpenPTY(t), t.TempDir()
	c, err := serialline.NewCapture(dir, pty.Path, 4096)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, serialline.Config{Path: pty.Path, Tap: c.Tap})
	mustWrite(t, p, "\x02READ?\r")
	mustWrite(t, pty.Peer(), "+12.5 kg\r\n")
	mustRead(t, p, "+12.5 kg\r\n")
	path := filepath.Join(dir, serialline.CaptureName(pty.Path))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Z > 02 52 45 41 44 3f 0d  |.READ?.|\n", "Z < 2b 31", "|+12.5 kg..|\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for range 500 {
		c.Tap(time.Now(), true, bytes.Repeat([]byte{0xAA}, 100))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	c.Tap(time.Now(), true, []byte("after the end")) // is nothing worse than lost
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v %v", entries, err)
	}
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
		total += info.Size()
	}
	if total > 4096 || total < 1024 {
		t.Errorf("%d bytes of at most 4096", total)
	}
}

// TestCaptureGoesOn: opening a line again and again, as of an adapter that is unplugged, takes nothing away that was captured, and a capture that could
// not be written goes on once it can.
func TestCaptureGoesOn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, serialline.CaptureName("/dev/ttyUSB0"))
	for i := range 5 {
		c, err := serialline.NewCapture(dir, "/dev/ttyUSB0", 4096)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 || i == 4 {
			c.Tap(time.Now(), true, []byte{'0' + byte(i)})
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "|0|") || !strings.Contains(string(b), "|4|") {
		t.Errorf("%s, %v", b, err)
	}
	c, err := serialline.NewCapture(dir, "/dev/ttyUSB0", 2000)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c.Tap(time.Now(), true, make([]byte, 400)) // the file is full, and there is nowhere to begin another one
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Tap(time.Now(), true, []byte("again"))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "pieces were lost") || !strings.Contains(string(b), "|again|") {
		t.Errorf("%s, %v", b, err)
	}
}
