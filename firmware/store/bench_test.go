package store

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// BenchmarkBytesPerUpdate writes 100 twin updates per window, spread over 1,000 points, as 100 updates a second do. It reports the
// bytes that the store writes per update, checkpoints included, and what the kernel accounts for them, which counts whole pages
// (write_bytes of /proc/self/io). The budget is 300 bytes at the block device.
func BenchmarkBytesPerUpdate(b *testing.B) {
	const points, perWindow = 1000, 100
	s := mustOpen(b, testOptions(b, b.TempDir()))
	value := []byte(`{"v":1234.5,"t":1700000000000,"q":"good","g":7}`)
	kernel := kernelWritten(b)
	b.ResetTimer()
	n := 0
	for b.Loop() {
		for range perWindow {
			var batch Batch
			batch.Put(SpaceTwin, fmt.Sprintf("default/pump-%d/speed", n%points), value)
			n++
			if err := s.CommitLazy(batch); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.flushAll(); err != nil {
			b.Fatal(err)
		}
		if s.checkpointDue() {
			if err := s.Checkpoint(); err != nil {
				b.Fatal(err)
			}
		}
	}
	m := s.Metrics()
	b.ReportMetric(float64(m.BytesWritten)/float64(n), "B/update")
	b.ReportMetric(float64(m.CheckpointBytesWritten)/float64(n), "checkpoint-B/update")
	b.ReportMetric(float64(kernelWritten(b)-kernel)/float64(n), "kernel-B/update")
	b.ReportMetric(float64(m.Syncs)/float64(n), "syncs/update")
}

func kernelWritten(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	var n int64
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// BenchmarkGet reads from the checkpoint: the way of an object that has not changed for long.
func BenchmarkGet(b *testing.B) {
	s := mustOpen(b, testOptions(b, b.TempDir()))
	for i := range 100 {
		put(b, s, SpaceDesired, fmt.Sprint(i), strings.Repeat("x", 4000))
	}
	if err := s.Checkpoint(); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		if _, ok, err := s.Get(SpaceDesired, fmt.Sprint(i%100)); !ok || err != nil {
			b.Fatal(ok, err)
		}
		i++
	}
}
