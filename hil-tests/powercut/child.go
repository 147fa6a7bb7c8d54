package powercut

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

const childEnv = "SKERRY_POWERCUT_CHILD"

// found is what a child found in an image.
type found struct {
	Findings      []string
	Durable, Lazy map[string]int
	Desired       int
	Outbox        []int
	Values        []foundValue
	Cursor        int
	Damaged       uint64
	Error         string // what else was wrong
}

type foundValue struct {
	Seq          int
	Device, Text string
}

// Child ends the process after it has served the campaign, if it is a child of one. Every main and TestMain that calls Run calls it first.
func Child() {
	if os.Getenv(childEnv) == "" {
		return
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() {
		var answer any
		switch order, rest, _ := strings.Cut(in.Text(), " "); order {
		case "look":
			answer = look(rest)
		default:
			answer = work(order, rest)
		}
		if err := out.Encode(answer); err != nil {
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// worked is what a workload says at its end.
type worked struct {
	Ledger *ledger
	Error  string
}

// work runs a workload in this process: not in the one that serves the file system, whose threads must not wait for itself (a page fault of bbolt's
// mapping stops the world for ever).
func work(name, rest string) (w worked) {
	length, dir, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(length)
	if err == nil {
		if name == "busy" {
			w.Ledger, err = busy(context.Background(), dir, n)
		} else {
			w.Ledger, err = day(context.Background(), dir, n)
		}
	}
	if err != nil {
		w.Error = err.Error()
	}
	return w
}

// look opens an image twice: to see what is there, and after some writing, to see that it is of use.
func look(dir string) (f found) {
	f.Durable, f.Lazy = map[string]int{}, map[string]int{}
	ctx := context.Background()
	fail := func(doing string, err error) found {
		f.Error = doing + ": " + err.Error()
		return f
	}
	g, err := openGateway(dir)
	if err != nil {
		return fail("opening", err)
	}
	if err := f.read(g); err != nil {
		return fail("reading", err)
	}
	var b store.Batch
	b.Put(store.SpaceTwin, "after", []byte("the cut"))
	if err := g.store.Commit(ctx, b); err != nil {
		return fail("committing after the cut", err)
	}
	g.history.Record(namespace, "after", "cut", device.String("x").At(time.Unix(1, 0)))
	if err := errors.Join(g.history.Flush(), g.close()); err != nil {
		return fail("closing after the cut", err)
	}
	if g, err = openGateway(dir); err != nil {
		return fail("opening again", err)
	}
	defer func() { _ = g.close() }() // what it holds has been read
	again := found{Durable: map[string]int{}, Lazy: map[string]int{}}
	if err := again.read(g); err != nil {
		return fail("reading again", err)
	}
	if v, ok, err := g.store.Get(store.SpaceTwin, "after"); err != nil || !ok || string(v) != "the cut" {
		return fail("what was committed after the cut", fmt.Errorf("%q, %v, %w", v, ok, err))
	}
	if n := len(again.Values); n == 0 || again.Values[n-1].Device != "after" || n < len(f.Values)/2 {
		return fail("what was recorded after the cut", fmt.Errorf("%d values, before %d", n, len(f.Values)))
	}
	if len(again.Findings) > 0 {
		return fail("opened again, the store found", errors.New(strings.Join(again.Findings, "; ")))
	}
	return f
}

// gateway is what a workload writes to.
type gateway struct {
	store   *store.Store
	desired *store.Desired
	outbox  *store.Outbox
	history *history.History
}

func openGateway(dir string) (g *gateway, err error) {
	sealer, err := store.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		return nil, err
	}
	g = &gateway{}
	quiet := slog.New(slog.DiscardHandler)
	defer func() {
		if err != nil {
			_ = g.close()
		}
	}()
	if g.store, err = store.Open(context.Background(), store.Options{Dir: filepath.Join(dir, "store"), Sealer: sealer, Log: quiet, CheckpointBytes: 256 << 10}); err != nil {
		return g, err
	}
	if g.desired, err = store.NewDesired(g.store); err != nil {
		return g, err
	}
	if g.outbox, err = store.NewOutbox(g.store, store.OutboxLimits{}); err != nil {
		return g, err
	}
	g.history, err = history.Open(history.Options{Dir: filepath.Join(dir, "history"), Sealer: sealer, Log: quiet, Epoch: g.store.Epoch(), MaxBytes: 1 << 20, DeviceBytes: 1 << 20})
	return g, err
}

func (g *gateway) close() error {
	var err error
	if g.history != nil {
		err = g.history.Close()
	}
	if g.store != nil {
		err = errors.Join(err, g.store.Close())
	}
	return err
}

// read says what is there.
func (f *found) read(g *gateway) error {
	for _, e := range g.store.Recovery().Findings {
		f.Findings = append(f.Findings, e.String())
	}
	pairs := map[string]int{}
	for _, space := range []store.Space{store.SpacePod, store.SpaceMeta, store.SpaceTwin} {
		err := g.store.Scan(space, "", func(key string, v []byte) error {
			kind, name, ok := strings.Cut(key, "/")
			if !ok || kind != "durable" && kind != "lazy" {
				return nil
			}
			n := number(string(v), twinSize)
			switch {
			case n < 0:
				return fmt.Errorf("%v %s is %.40q", space, key, v)
			case space != store.SpaceTwin:
				pairs[key] = n
			case pairs[key] != n:
				return fmt.Errorf("half a batch: %s is %d, and %d in its other space", key, n, pairs[key])
			case kind == "durable":
				f.Durable[name] = n
			default:
				f.Lazy[name] = n
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if o, ok := g.desired.Get(desiredKey); ok {
		if f.Desired = number(string(o.Body), twinSize); f.Desired < 0 {
			return fmt.Errorf("the desired object is %.40q", o.Body)
		}
	}
	var err error
	if f.Outbox, err = items(g.outbox); err != nil {
		return err
	}
	return f.readHistory(g.history)
}

// items returns the numbers of all that is in an outbox.
func items(o *store.Outbox) (out []int, err error) {
	type id struct{ epoch, seq uint64 }
	seen := map[id]bool{}
	for {
		list := o.Pending(0, 1000)
		if len(list) == 0 {
			return out, nil
		}
		for _, it := range list {
			n := number(string(it.Body), twinSize)
			if n < 0 || seen[id{it.Epoch, it.Seq}] {
				return nil, fmt.Errorf("item %d/%d of the outbox is %.40q, or there twice", it.Epoch, it.Seq, it.Body)
			}
			seen[id{it.Epoch, it.Seq}] = true
			out = append(out, n)
		}
		// Those of later starts come when those of earlier ones are acknowledged.
		if err := o.Ack(list[len(list)-1].Epoch, list[len(list)-1].Seq); err != nil {
			return nil, err
		}
	}
}

func (f *found) readHistory(h *history.History) error {
	stats := h.Stats()
	f.Damaged = stats.Damaged
	for _, t := range stats.Targets {
		if t.Name == target {
			f.Cursor = int(t.Acked) //nolint:gosec // a test's count
		}
	}
	r, err := h.Reader("all of it")
	if err != nil {
		return err
	}
	defer func() {
		r.Close()
		h.Forget("all of it")
	}()
	for left := stats.Values; left > 0; {
		ctx, cancel := context.WithTimeout(context.Background(), stall)
		list, err := r.Next(ctx, 1000)
		cancel()
		if err != nil {
			return fmt.Errorf("%d values of the history did not come: %w", left, err)
		}
		left -= int64(len(list))
		for _, e := range list {
			f.Values = append(f.Values, foundValue{int(e.Seq), e.Device, e.Value.AsString()}) //nolint:gosec // a test's count
		}
	}
	return nil
}

// process is a child that looks at images.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *bytes.Buffer
}

func startChild(ctx context.Context, program string) (*process, error) {
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	p := &process{cmd: exec.CommandContext(ctx, program), stderr: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(os.Getpid()))
	p.cmd.Stderr = p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	return p, p.cmd.Start()
}

// ask gives the child an order and waits for its answer. An error means that the child died of it.
func (p *process) ask(order string, answer any) error {
	_, err := fmt.Fprintln(p.in, order)
	if err == nil {
		var line []byte
		if line, err = p.out.ReadBytes('\n'); err == nil {
			return json.Unmarshal(line, answer)
		}
	}
	_ = p.cmd.Wait()
	text := p.stderr.String()
	return fmt.Errorf("the child process died: %w: %.2000s", err, text)
}

func (p *process) stop() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

const (
	desiredKey = wire.Key("configmaps/plant/desired")
	namespace  = "plant"
	target     = "influx"
	noisy      = "noisy"
	twinSize   = 153 // bytes of a twin's record

	// stall is how long a reader is waited for when values that must be there do not come.
	stall = 2 * time.Second
)
