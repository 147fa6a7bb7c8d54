package modbuspeer

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/goburrow/modbus"

	"github.com/skerry/skerry/hil-tests/rig/process"
)

//go:embed server.py
var script string

// controlUnit is a unit of the server that tells how many requests the others got.
const controlUnit = 255

// readyLimit bounds how long Python may take to start on a loaded machine.
const readyLimit = 60 * time.Second

// Options say how to run the peer; the zero Options are what most tests want.
type Options struct {
	Units  []byte // default 1, 2, 3
	Port   int    // default a free one
	Log    string // file that the server's output is appended to; discarded if empty
	Python string // default /usr/bin/python3, which finds Debian's python3-pymodbus
}

// Peer is a running server. The caller of Start calls Stop.
type Peer struct {
	opt Options

	mu   sync.Mutex
	proc *process.Process
}

// Start runs the server and waits until it answers. ctx bounds the start only.
func Start(ctx context.Context, opt Options) (*Peer, error) {
	if len(opt.Units) == 0 {
		opt.Units = []byte{1, 2, 3}
	}
	if opt.Python == "" {
		opt.Python = "/usr/bin/python3"
	}
	if opt.Port == 0 {
		port, err := freePort(ctx)
		if err != nil {
			return nil, fmt.Errorf("find a free port for the Modbus peer: %w", err)
		}
		opt.Port = port
	}
	p := &Peer{opt: opt}
	return p, p.Restart(ctx)
}

func freePort(ctx context.Context) (int, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// Restart runs the server again, on the same port and with fresh registers, after Kill or Stop.
func (p *Peer) Restart(ctx context.Context) error {
	args := []string{"-u", "-", "127.0.0.1", strconv.Itoa(p.opt.Port)}
	for _, u := range p.opt.Units {
		args = append(args, strconv.Itoa(int(u)))
	}
	proc, err := process.Start(process.Spec{Name: "pymodbus", Path: p.opt.Python, Args: args, Stdin: script, Log: p.opt.Log, Grace: 5 * time.Second})
	if err != nil {
		return fmt.Errorf("start the Modbus peer (is python3-pymodbus installed?): %w", err)
	}
	p.mu.Lock()
	p.proc = proc
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	err = process.WaitReady(ctx, proc, "the Modbus peer answers", nil, func(ctx context.Context) error {
		_, err := p.Requests(ctx)
		return err
	})
	if err != nil {
		return errors.Join(err, proc.Kill())
	}
	return nil
}

func (p *Peer) process() *process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.proc
}

// Addr returns host:port.
func (p *Peer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.opt.Port)) }

// Port returns the port.
func (p *Peer) Port() int { return p.opt.Port }

// Stop ends the server.
func (p *Peer) Stop() error {
	if err := p.process().Signal(syscall.SIGCONT); err != nil { // a paused one cannot end
		return p.process().Kill()
	}
	return p.process().Stop()
}

// Kill ends the server with SIGKILL, as if the device lost power.
func (p *Peer) Kill() error { return p.process().Kill() }

// Pause stops the server with SIGSTOP: the kernel still accepts connections, and nothing answers.
func (p *Peer) Pause() error { return p.process().Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Peer) Resume() error { return p.process().Signal(syscall.SIGCONT) }

// with calls f with a client and a connection of its own: goburrow's, because the driver must not check itself.
func (p *Peer) with(ctx context.Context, unit byte, f func(modbus.Client) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h := modbus.NewTCPClientHandler(p.Addr())
	h.SlaveId = unit
	h.Timeout = 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		h.Timeout = min(h.Timeout, max(time.Until(d), time.Millisecond))
	}
	if err := h.Connect(); err != nil {
		return fmt.Errorf("connect to the Modbus peer: %w", err)
	}
	defer func() { _ = h.Close() }() // everything has been read
	if err := f(modbus.NewClient(h)); err != nil {
		return fmt.Errorf("ask the Modbus peer: %w", err)
	}
	return nil
}

// Holding reads n holding registers of a unit from addr on.
func (p *Peer) Holding(ctx context.Context, unit byte, addr, n uint16) ([]uint16, error) {
	var data []byte
	err := p.with(ctx, unit, func(c modbus.Client) (err error) {
		data, err = c.ReadHoldingRegisters(addr, n)
		return err
	})
	out := make([]uint16, len(data)/2)
	for i := range out {
		out[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return out, err
}

// SetHolding writes one holding register of a unit.
func (p *Peer) SetHolding(ctx context.Context, unit byte, addr, value uint16) error {
	return p.with(ctx, unit, func(c modbus.Client) error {
		_, err := c.WriteSingleRegister(addr, value)
		return err
	})
}

// Coil reads one coil of a unit.
func (p *Peer) Coil(ctx context.Context, unit byte, addr uint16) (bool, error) {
	var on bool
	err := p.with(ctx, unit, func(c modbus.Client) error {
		data, err := c.ReadCoils(addr, 1)
		on = err == nil && len(data) == 1 && data[0]&1 == 1
		return err
	})
	return on, err
}

// SetCoil writes one coil of a unit.
func (p *Peer) SetCoil(ctx context.Context, unit byte, addr uint16, on bool) error {
	value := uint16(0)
	if on {
		value = 0xFF00
	}
	return p.with(ctx, unit, func(c modbus.Client) error {
		_, err := c.WriteSingleCoil(addr, value)
		return err
	})
}

// Requests returns how many requests the server has executed for its units, this package's own included.
func (p *Peer) Requests(ctx context.Context) (int64, error) {
	var n int64
	err := p.with(ctx, controlUnit, func(c modbus.Client) error {
		data, err := c.ReadInputRegisters(0, 2)
		if err == nil && len(data) == 4 {
			n = int64(binary.BigEndian.Uint32(data))
		}
		return err
	})
	return n, err
}
