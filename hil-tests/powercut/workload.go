package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skerry/skerry/firmware/history"
	"github.com/skerry/skerry/firmware/store"
	"github.com/skerry/skerry/firmware/wire"
	"github.com/skerry/skerry/mappers/device"
)

// writer writes to a gateway and keeps the ledger. Each kind of thing has one goroutine at a time.
type writer struct {
	*gateway
	dir string
	l   *ledger

	lazies, durables, desireds, appends, acks int
	reader                                    *history.Reader
}

// length returns how many operations have been recorded.
func (w *writer) length() int {
	info, err := os.Lstat(filepath.Join(w.dir, lengthFile))
	if err != nil {
		panic(fmt.Sprintf("the recorder's file system does not answer: %v", err)) // in a child, whose death is the campaign's error
	}
	return int(info.Size())
}

// promise notes that a fact of a list is on the disk from an operation on.
func (w *writer) promise(list *[]fact, i, until int) {
	w.l.mu.Lock()
	(*list)[i].Until = until
	w.l.mu.Unlock()
}

// lazyTwin writes a reported value, and the same in a second space in one batch.
func (w *writer) lazyTwin(points int) error {
	w.lazies++
	key := fmt.Sprint(w.lazies % points)
	w.l.mu.Lock()
	w.l.Lazy[key] = append(w.l.Lazy[key], fact{N: w.lazies, Begun: w.length()})
	w.l.mu.Unlock()
	var b store.Batch
	b.Put(store.SpaceTwin, "lazy/"+key, []byte(text(w.lazies, twinSize)))
	b.Put(store.SpaceMeta, "lazy/"+key, []byte(text(w.lazies, twinSize)))
	return w.store.CommitLazy(b)
}

// durableTwin writes a desired value and waits for it.
func (w *writer) durableTwin(ctx context.Context, points int) error {
	w.durables++
	key := fmt.Sprint(w.durables % points)
	w.l.mu.Lock()
	list := append(w.l.Durable[key], fact{N: w.durables, Begun: w.length()})
	w.l.Durable[key] = list
	w.l.mu.Unlock()
	var b store.Batch
	b.Put(store.SpaceTwin, "durable/"+key, []byte(text(w.durables, twinSize)))
	b.Put(store.SpacePod, "durable/"+key, []byte(text(w.durables, twinSize)))
	if err := w.store.Commit(ctx, b); err != nil {
		return err
	}
	w.promise(&list, len(list)-1, w.length())
	return nil
}

func (w *writer) desire(ctx context.Context) error {
	w.desireds++
	w.l.mu.Lock()
	w.l.Desired = append(w.l.Desired, fact{N: w.desireds, Begun: w.length()})
	w.l.mu.Unlock()
	body := []byte(text(w.desireds, twinSize))
	o := wire.Object{Key: desiredKey, Version: wire.BodyVersion("uid", body), Revision: uint64(w.desireds), Body: body} //nolint:gosec // a count
	if err := w.desired.Apply(ctx, wire.Commit{ID: uint64(w.desireds), Rules: 1, Put: []wire.Object{o}}); err != nil {  //nolint:gosec // a count
		return err
	}
	w.promise(&w.l.Desired, w.desireds-1, w.length())
	return nil
}

func (w *writer) appendItem() error {
	w.appends++
	w.l.mu.Lock()
	w.l.Appended = append(w.l.Appended, fact{N: w.appends, Begun: w.length()})
	w.l.mu.Unlock()
	if err := w.outbox.Append("event", []byte(text(w.appends, twinSize))); err != nil {
		return err
	}
	w.promise(&w.l.Appended, w.appends-1, w.length())
	return nil
}

// ackItems acknowledges all but the newest items.
func (w *writer) ackItems(leave int) error {
	list := w.outbox.Pending(0, 1000)
	if len(list) <= leave {
		return nil
	}
	it := list[len(list)-1-leave]
	w.acks = number(string(it.Body), twinSize)
	w.l.mu.Lock()
	w.l.Acked = append(w.l.Acked, fact{N: w.acks, Begun: w.length()})
	w.l.mu.Unlock()
	return w.outbox.Ack(it.Epoch, it.Seq)
}

// record records a value: every second one is a long one of one device, the others are short ones of nine.
func (w *writer) record() {
	w.l.mu.Lock()
	n := len(w.l.Values) + 1
	v := value{fact: fact{N: n, Begun: w.length()}, Device: noisy, Text: text(n, 600)}
	if n%2 == 0 {
		v.Device, v.Text = fmt.Sprint("quiet-", n/2%9), text(n, 8)
	}
	w.l.Values = append(w.l.Values, v)
	w.l.mu.Unlock()
	w.history.Record(namespace, v.Device, "state", device.String(v.Text).At(time.Unix(int64(n), 0)))
}

// push lets the target take some values.
func (w *writer) push(ctx context.Context, n int) error {
	if w.reader == nil {
		var err error
		if w.reader, err = w.history.Reader(target); err != nil {
			return err
		}
	}
	if w.history.Stats().Values == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	list, err := w.reader.Next(ctx, n)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // it has all
	}
	if err != nil {
		return err
	}
	seq := list[len(list)-1].Seq
	w.l.mu.Lock()
	w.l.Cursor = append(w.l.Cursor, fact{N: int(seq), Begun: w.length()}) //nolint:gosec // a count
	w.l.mu.Unlock()
	return w.reader.Ack(seq)
}

// flush ends a window.
func (w *writer) flush() error {
	before := w.length()
	var one, other error
	var wg sync.WaitGroup
	wg.Go(func() { one = w.store.Flush() })
	wg.Go(func() { other = w.history.Flush() })
	wg.Wait()
	w.l.flushed(before, w.length())
	return errors.Join(one, other)
}

// busy is the workload of the campaign: so many windows of a second of 100 lazy twins and 100 values of the history each, with
// durable commits, the outbox, a push target and checkpoints going on at the same time. It runs as fast as it can: a window is what is between two flushes.
func busy(ctx context.Context, dir string, windows int) (*ledger, error) {
	w := &writer{dir: dir, l: newLedger(100)}
	var err error
	if w.gateway, err = openGateway(dir); err != nil {
		return nil, err
	}
	for i := range windows {
		if err := w.window(ctx, i); err != nil {
			_ = w.close()
			return nil, fmt.Errorf("window %d: %w", i, err)
		}
	}
	if w.reader != nil {
		w.reader.Close()
	}
	return w.l, w.close()
}

func (w *writer) window(ctx context.Context, i int) error {
	tasks := []func() error{
		func() (err error) {
			for range 100 {
				w.record()
				err = errors.Join(err, w.lazyTwin(300))
			}
			return err
		},
		func() (err error) {
			for range 4 {
				err = errors.Join(err, w.durableTwin(ctx, 50))
			}
			return err
		},
		func() error {
			return errors.Join(w.desire(ctx), w.appendItem(), w.appendItem(), w.ackItems(5))
		},
		func() error { return w.push(ctx, 90) },
	}
	if i%5 == 4 {
		tasks = append(tasks, w.store.Checkpoint)
	}
	errs := make([]error, len(tasks))
	var wg sync.WaitGroup
	for j, task := range tasks {
		wg.Go(func() { errs[j] = task() })
	}
	wg.Wait()
	return errors.Join(append(errs, w.flush())...)
}

// day is the workload that is cut at every operation: one thing after the other, with restarts.
func day(ctx context.Context, dir string, hours int) (*ledger, error) {
	w := &writer{dir: dir, l: newLedger(40)}
	for hour := range hours {
		var err error
		if w.gateway, err = openGateway(dir); err != nil {
			return nil, err
		}
		w.reader = nil
		for minute := range 6 {
			steps := []error{w.desire(ctx), w.durableTwin(ctx, 5), w.appendItem()}
			for range 40 {
				w.record()
				steps = append(steps, w.lazyTwin(10))
			}
			steps = append(steps, w.flush(), w.push(ctx, 20), w.ackItems(2))
			if minute == 3 {
				steps = append(steps, w.store.Checkpoint())
			}
			if err := errors.Join(steps...); err != nil {
				return nil, errors.Join(fmt.Errorf("hour %d: %w", hour, err), w.close())
			}
		}
		before := w.length()
		if err := w.close(); err != nil {
			return nil, err
		}
		w.l.flushed(before, w.length())
	}
	return w.l, nil
}
