package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/devices"
	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/hil-tests/bench"
	"github.com/skerry/skerry/hil-tests/powercut"
	"github.com/skerry/skerry/hil-tests/rig/devicehost"
	"github.com/skerry/skerry/mappers/device"
)

// Limits of the design, in bytes that reach the block device for each update.
const (
	budgetLazy    = 300
	budgetDurable = 5000
)

// storeOptions are the flags of the store's benchmark.
type storeOptions struct {
	run  time.Duration
	cuts int
}

func (o *storeOptions) register(fs *flag.FlagSet) {
	fs.IntVar(&o.cuts, "cuts", 1000, "random power cuts; to these come one at each operation of a scripted day")
	fs.DurationVar(&o.run, "for", 8*time.Minute, "how long 100 twin updates a second are written; a checkpoint is due about every three minutes")
}

// storeBench counts what twin updates and history cost the flash: bytes that reach a block device (a loop device with ext4), journal, checkpoints and
// zero-filled segments included. The updates are those of the real device host: 1,000 points, each of which changes every 10 seconds.
// Each figure is taken on blocks of 4 KiB, the strict one, and on blocks of 1 KiB (name_1k).
func storeBench(ctx context.Context, r *bench.Report, o options) error {
	if err := cutBench(ctx, r, o); err != nil {
		return err
	}
	over := []error{durableBench(ctx, r, o, "durable_bytes_per_update", strictBlock), durableBench(ctx, r, o, "durable_bytes_per_update_1k", smallBlock)}
	o.say("100 twin updates a second for %v, without and with history, on 4 KiB and 1 KiB blocks, at the same time, each on a disk of its own", o.store.run)
	results, errs := make([]flashCost, len(flashRuns)), make([]error, len(flashRuns))
	var wg sync.WaitGroup
	for i, k := range flashRuns {
		wg.Go(func() { results[i], errs[i] = lazyBench(ctx, o, k) })
	}
	wg.Wait()
	for i, k := range flashRuns {
		if errs[i] != nil {
			over = append(over, fmt.Errorf("%s: %w", k.name, errs[i]))
			continue
		}
		c := results[i]
		r.Add(k.name, c.perUpdate(), "B")
		r.Attach(k.name+"_details", c)
		o.say("%s: %d updates, %d B at the device in %d writes; the store wrote %d B to its log and %d to checkpoints in %d syncs, the history %d B in %d syncs: %.0f B for each update",
			k.name, c.Updates, c.Device, c.Writes, c.Log, c.Checkpoints, c.Syncs, c.History, c.HistorySyncs, c.perUpdate())
		if c.perUpdate() > budgetLazy && !k.fresh {
			over = append(over, fmt.Errorf("%s: %.0f bytes reach the flash for each update, the budget is %d", k.name, c.perUpdate(), budgetLazy))
		}
	}
	return errors.Join(over...) // what is over the budget does not keep the other figures from being measured
}

// Block sizes of ext4. mkfs takes 4 KiB for any partition from 512 MB on, where a sync of the least costs most: this is the size that counts.
const (
	strictBlock = 4096
	smallBlock  = 1024
)

// flashRun is one disk on which updates are counted.
type flashRun struct {
	name    string
	block   int
	history bool
	fresh   bool // from the first minute of a new store, whose first two segments of log have to be made; the others have been through two checkpoints
}

var flashRuns = []flashRun{
	{name: "flash_bytes_per_update", block: strictBlock},
	{name: "flash_bytes_per_update_with_history", block: strictBlock, history: true},
	{name: "flash_bytes_per_update_1k", block: smallBlock},
	{name: "flash_bytes_per_update_with_history_1k", block: smallBlock, history: true},
	{name: "flash_bytes_per_update_new_store", block: strictBlock, fresh: true},
}

// cutBench is the campaign of package powercut.
func cutBench(ctx context.Context, r *bench.Report, o options) error {
	res, err := powercut.Run(ctx, powercut.Options{Cuts: o.store.cuts, Seed: 1, Progress: o.out})
	if err != nil {
		return err
	}
	r.Add("power_cuts", float64(res.Cuts+res.DayCuts), "")
	r.Add("power_cut_losses", float64(res.Failed), "")
	r.Add("power_cut_most_values_lost", float64(res.MostLost), "")
	r.Attach("power_cut_failures", res.Failures)
	if res.Failed > 0 {
		return fmt.Errorf("%d power cuts cost more than was promised, the first: %v", res.Failed, res.Failures[0])
	}
	return nil
}

// flashCost is what a run cost.
type flashCost struct {
	Updates, Device, Writes int64
	Log, Checkpoints, Syncs int64 // the store's own count
	History, HistorySyncs   int64
}

func (c flashCost) perUpdate() float64 { return float64(c.Device) / float64(max(c.Updates, 1)) }

func sealerFor(dir string) (store.Sealer, error) {
	return store.OpenKeyFile(filepath.Join(dir, "seal.key"))
}

// durableBench commits one twin after the other, each durable before the next: desired values and their outcomes.
func durableBench(ctx context.Context, r *bench.Report, o options, name string, block int) error {
	const updates = 2000
	disk, err := newLoopDisk(ctx, filepath.Join(o.module, "build", "bench"), 256<<20, block)
	if err != nil {
		return err
	}
	defer disk.close()
	sealer, err := sealerFor(disk.mount)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{Dir: filepath.Join(disk.mount, "store"), Sealer: sealer, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	before, err := disk.settled()
	if err != nil {
		return err
	}
	record := make([]byte, 153) // of a property with a desired value, as firmware/devices encodes it
	for i := range updates {
		var b store.Batch
		b.Put(store.SpaceTwin, fmt.Sprintf("default/device-%d/point-%d", i%100, i/100%10), record)
		if err := s.Commit(ctx, b); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	after, err := disk.settled()
	if err != nil {
		return err
	}
	cost := flashCost{Updates: updates, Device: after.bytes - before.bytes}.perUpdate()
	r.Add(name, cost, "B")
	o.say("%s: %.0f B at the device", name, cost)
	if cost > budgetDurable {
		return fmt.Errorf("%s: %.0f bytes reach the flash for each durable update, the budget is %d", name, cost, budgetDurable)
	}
	return nil
}

// countedTwins lets the device host keep its twins in a store, and counts them.
type countedTwins struct {
	store   *store.Store
	mu      sync.Mutex
	records int64
}

func (t *countedTwins) Scan(prefix string, fn func(key string, record []byte) error) error {
	return t.store.Scan(store.SpaceTwin, prefix, fn)
}

func (t *countedTwins) batch(records []devices.TwinRecord) store.Batch {
	var b store.Batch
	for _, r := range records {
		b.Put(store.SpaceTwin, r.Key, r.Record)
	}
	t.mu.Lock()
	t.records += int64(len(records))
	t.mu.Unlock()
	return b
}

func (t *countedTwins) Commit(ctx context.Context, records []devices.TwinRecord) error {
	return t.store.Commit(ctx, t.batch(records))
}

func (t *countedTwins) CommitLazy(records []devices.TwinRecord) error {
	return t.store.CommitLazy(t.batch(records))
}

func (t *countedTwins) count() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.records
}

// lazyBench runs the device host on a disk of its own.
func lazyBench(ctx context.Context, o options, k flashRun) (cost flashCost, err error) {
	disk, err := newLoopDisk(ctx, filepath.Join(o.module, "build", "bench"), 256<<20, k.block)
	if err != nil {
		return cost, err
	}
	defer disk.close()
	sealer, err := sealerFor(disk.mount)
	if err != nil {
		return cost, err
	}
	quiet := slog.New(slog.DiscardHandler)
	s, err := store.Open(ctx, store.Options{Dir: filepath.Join(disk.mount, "store"), Sealer: sealer, Log: quiet})
	if err != nil {
		return cost, err
	}
	twins := &countedTwins{store: s}
	rig := devicehost.Options{Drivers: []device.Driver{counterDriver{}}, Twins: twins}
	var h *history.History
	if k.history {
		if h, err = history.Open(history.Options{Dir: filepath.Join(disk.mount, "history"), Sealer: sealer, Epoch: s.Epoch(), Log: quiet, MaxBytes: 64 << 20}); err != nil {
			return cost, err
		}
		rig.History = h
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { _ = s.Run(ctx) })
	if h != nil {
		background.Go(func() { _ = h.Run(ctx) })
	}
	defer background.Wait()
	defer cancel()
	if !k.fresh {
		if err := age(ctx, s); err != nil {
			return cost, err
		}
	}
	g, err := startPlant(rig)
	if err != nil {
		return cost, err
	}
	if err := sleep(ctx, 30*time.Second); err != nil { // the first readings and reports
		return cost, err
	}
	before, err := disk.settled()
	if err != nil {
		return cost, err
	}
	m0, n0 := s.Metrics(), twins.count()
	var h0, h1 history.Stats
	if h != nil {
		h0 = h.Stats()
	}
	if err := sleep(ctx, o.store.run); err != nil {
		return cost, err
	}
	after, err := disk.settled()
	if err != nil {
		return cost, err
	}
	m1 := s.Metrics()
	if h != nil {
		h1 = h.Stats()
	}
	cost = flashCost{
		Updates: twins.count() - n0, Device: after.bytes - before.bytes, Writes: after.writes - before.writes,
		Log: m1.LogBytesWritten - m0.LogBytesWritten, Checkpoints: m1.CheckpointBytesWritten - m0.CheckpointBytesWritten, Syncs: m1.Syncs - m0.Syncs,
		History: h1.Written - h0.Written, HistorySyncs: h1.Syncs - h0.Syncs,
	}
	if err := g.Stop(); err != nil {
		return cost, err
	}
	cancel()
	background.Wait()
	if h != nil {
		if err := h.Close(); err != nil {
			return cost, err
		}
	}
	return cost, s.Close()
}

// age brings a store, whose Run is running, to where one is that has been in use for a while: both files of its log have been filled once.
func age(ctx context.Context, s *store.Store) error {
	for s.Metrics().Checkpoints < 4 {
		var b store.Batch
		for i := range 100 {
			b.Put(store.SpaceMeta, fmt.Sprintf("age/%d", i), make([]byte, 153))
		}
		if err := s.Commit(ctx, b); err != nil {
			return err
		}
	}
	var b store.Batch
	for i := range 100 {
		b.Delete(store.SpaceMeta, fmt.Sprintf("age/%d", i))
	}
	return s.Commit(ctx, b)
}

// startPlant starts a host with 100 devices of 10 points each, which are read every second; one of the ten has changed.
func startPlant(o devicehost.Options) (*devicehost.Gateway, error) {
	g, err := devicehost.Start(o)
	if err != nil {
		return nil, err
	}
	var properties []devicehost.Property
	for i := range 10 {
		properties = append(properties, devicehost.Property{
			Name: fmt.Sprintf("point-%d", i), Type: "FLOAT", Collect: 1000, Visitor: map[string]any{"history": true}, Local: true,
		})
	}
	objects := []devicehost.Object{devicehost.Model("plant", "counter", properties)}
	for i := range 100 {
		objects = append(objects, devicehost.Device(fmt.Sprintf("device-%d", i), "plant", "counter", map[string]any{}, properties))
	}
	return g, g.Apply(objects...)
}

// counterDriver is a device of which one point after the other changes, one with each reading.
type counterDriver struct{}

type counterPoint struct{}

func (counterPoint) String() string { return "a counter" }

type counterSession struct {
	mu     sync.Mutex
	reads  int
	points []float32
}

func (counterDriver) Protocols() []string                              { return []string{"counter"} }
func (counterDriver) Describe() device.Description                     { return device.Description{} }
func (counterDriver) Check(device.Config) error                        { return nil }
func (counterDriver) Compile(device.PointConfig) (device.Point, error) { return counterPoint{}, nil }
func (counterDriver) Open(context.Context, device.Config) (device.Session, error) {
	return &counterSession{}, nil
}

func (s *counterSession) Read(_ context.Context, _ []device.Point, values []device.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.points) < len(values) {
		s.points = append(s.points, 20)
	}
	s.points[s.reads%len(values)] += 0.37
	s.reads++
	for i := range values {
		values[i] = device.Float32(s.points[i]).At(time.Now())
	}
	return nil
}

func (s *counterSession) Write(_ context.Context, writes []device.Write) []device.WriteResult {
	return make([]device.WriteResult, len(writes))
}

func (s *counterSession) Close() error { return nil }
