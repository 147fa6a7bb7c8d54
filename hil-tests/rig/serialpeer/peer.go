package serialpeer

import (
	"context"
	_ "embed" // the peers' script
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

//go:embed peer.py
var script string

const readyLimit = 15 * time.Second

// Line is a pair of pseudo-terminals that socat joins, under paths that stay.
type Line struct {
	Port   string // for the driver
	Device string // for the device
	proc   *process.Process
}

// StartLine joins two pseudo-terminals with links in dir.
func StartLine(ctx context.Context, dir string) (*Line, error) {
	l := &Line{Port: filepath.Join(dir, "ttyPORT"), Device: filepath.Join(dir, "ttyDEVICE")}
	return l, l.Plug(ctx)
}

// Plug makes the line, again after Unplug.
func (l *Line) Plug(ctx context.Context) error {
	var err error
	l.proc, err = socat(ctx, []string{l.Port, l.Device}, "PTY,raw,echo=0,link="+l.Port, "PTY,raw,echo=0,link="+l.Device)
	return err
}

// Unplug takes both ends away.
func (l *Line) Unplug() error { return stop(l.proc) }

func stop(p *process.Process) error {
	if p == nil {
		return nil
	}
	return p.Stop()
}

// socat starts socat and waits for its links.
func socat(ctx context.Context, links []string, args ...string) (*process.Process, error) {
	for _, l := range links {
		if err := os.Remove(l); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	p, err := process.Start(process.Spec{Path: "socat", Args: args})
	if err != nil {
		return nil, fmt.Errorf("start socat (is it installed?): %w", err)
	}
	err = ready(ctx, p, "socat's ports are there", func() error {
		for _, l := range links {
			if _, err := os.Stat(l); err != nil {
				return err
			}
		}
		return nil
	})
	return p, err
}

func ready(ctx context.Context, p *process.Process, what string, is func() error) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := process.WaitReady(ctx, p, what, nil, func(context.Context) error { return is() }); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

// Device is a device of pyserial.
type Device struct{ *process.Process }

// StartDevice runs a device ("scale", "meter") at the device's end of a line.
func StartDevice(ctx context.Context, l *Line, kind string) (*Device, error) {
	log := l.Device + ".log"
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	p, err := process.Start(process.Spec{Name: kind, Path: "/usr/bin/python3", Args: []string{"-u", "-", l.Device, kind}, Stdin: script, Log: log})
	if err != nil {
		return nil, fmt.Errorf("start a %s (is python3-serial installed?): %w", kind, err)
	}
	err = ready(ctx, p, "the "+kind+" has opened its port", func() error {
		return saysReady(log)
	})
	return &Device{p}, err
}

// Hold has pyserial open a port exclusively.
func Hold(ctx context.Context, port, log string) (*process.Process, error) {
	const hold = "import serial,sys,time\np = serial.Serial(sys.argv[1], exclusive=True)\nprint('ready', flush=True)\ntime.sleep(600)\n"
	p, err := process.Start(process.Spec{Path: "/usr/bin/python3", Args: []string{"-u", "-", port}, Stdin: hold, Log: log})
	if err != nil {
		return nil, err
	}
	return p, ready(ctx, p, "pyserial holds the port", func() error {
		return saysReady(log)
	})
}

// saysReady reads a script's output for its word that it is.
func saysReady(log string) error {
	b, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	if !strings.Contains(string(b), "ready") {
		return fmt.Errorf("it has not said that it is ready, but %q", b)
	}
	return nil
}

// FreePort returns a port of loopback that nobody listens on.
func FreePort(ctx context.Context) (int, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// StartServer runs a serial server in raw TCP mode in front of a line's port.
func StartServer(ctx context.Context, l *Line, port int) (*process.Process, error) {
	p, err := process.Start(process.Spec{Path: "socat", Args: []string{fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,fork,reuseaddr", port), l.Port + ",raw,echo=0"}})
	if err != nil {
		return nil, err
	}
	// Not by connecting: every connection opens the port, and takes bytes away from the others.
	return p, ready(ctx, p, "the serial server listens", func() error {
		table, err := os.ReadFile("/proc/net/tcp")
		if err == nil && !strings.Contains(string(table), fmt.Sprintf(" 0100007F:%04X 00000000:0000 0A ", port)) {
			err = errors.New("nobody listens yet")
		}
		return err
	})
}

func listens(ctx context.Context, port int) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return c.Close()
}

// GPS is a gpsd that gets a receiver's log, and two ports: what the receiver sends, and what gpsd makes of it as lines of JSON.
type GPS struct {
	NMEA, JSON string
	procs      []*process.Process
}

// StartGPS feeds a log of NMEA sentences to gpsd, again and again, ten sentences a second.
func StartGPS(ctx context.Context, dir, log string) (*GPS, error) {
	g := &GPS{NMEA: filepath.Join(dir, "ttyNMEA"), JSON: filepath.Join(dir, "ttyJSON")}
	path := filepath.Join(dir, "receiver.nmea")
	if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
		return g, err
	}
	port, err := FreePort(ctx)
	if err != nil {
		return g, err
	}
	fake, err := process.Start(process.Spec{Path: "gpsfake", Args: []string{"-q", "-n", "-c", "0.1", "-P", strconv.Itoa(port), path}, Log: filepath.Join(dir, "gpsfake.log")})
	if err != nil {
		return g, fmt.Errorf("start gpsfake (are gpsd and gpsd-clients installed?): %w", err)
	}
	g.procs = append(g.procs, fake)
	if err := ready(ctx, fake, "gpsd listens", func() error { return listens(ctx, port) }); err != nil {
		return g, err
	}
	for _, s := range []struct{ flag, link string }{{"-r", g.NMEA}, {"-w", g.JSON}} {
		p, err := socat(ctx, []string{s.link}, "-u", fmt.Sprintf("EXEC:gpspipe %s 127.0.0.1\\:%d", s.flag, port), "PTY,raw,echo=0,link="+s.link)
		if err != nil {
			return g, err
		}
		g.procs = append(g.procs, p)
	}
	return g, nil
}

// Stop ends all of it.
func (g *GPS) Stop() error {
	var errs []error
	for i := len(g.procs) - 1; i >= 0; i-- {
		errs = append(errs, stop(g.procs[i]))
	}
	return errors.Join(errs...)
}
