package pods

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// flusher has the files of images on the disk before containers run from them. containerd (seen with 1.6.20) writes its database durably, but not what it
// unpacks: after a power failure in the half minute in which Linux may keep files in memory, an image was there whose files were empty, and its pods failed
// for ever. It unpacks what it pulls at once, and what was imported, and the image of sandboxes, for the first container. What is left is the moment between
// its commit and the end of the flush. It is safe for concurrent use.
type flusher struct {
	rt    ImageRuntime
	flush func(path string) error
	log   *slog.Logger

	mu   sync.Mutex
	done map[string]bool
}

// flushedAtMost bounds what is remembered. An image that is flushed once more costs next to nothing: all of it is on the disk.
const flushedAtMost = 1024

func newFlusher(o *Options) *flusher {
	return &flusher{rt: o.Runtime, flush: o.FlushDisk, log: o.Log, done: map[string]bool{}}
}

// pulled flushes an image that has just been fetched.
func (f *flusher) pulled(ctx context.Context, image string) {
	f.mu.Lock()
	delete(f.done, image)
	f.mu.Unlock()
	f.used(ctx, image)
}

// used flushes an image from which something has just been made, once.
func (f *flusher) used(ctx context.Context, image string) {
	f.mu.Lock()
	done := f.done[image]
	f.mu.Unlock()
	if done {
		return
	}
	begin := time.Now()
	path, err := f.where(ctx)
	if err == nil && path != "" {
		err = f.flush(path)
	}
	if err != nil {
		f.log.Warn("cannot flush the files of an image to the disk: after a power failure now they may be empty; it is tried again with the next container of it",
			"image", image, "folder", path, "error", err)
		return
	}
	if took := time.Since(begin); took > time.Second {
		f.log.Info("flushed the files of an image to the disk", "image", image, "folder", path, "took", took.Round(time.Millisecond))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.done) >= flushedAtMost {
		clear(f.done)
	}
	f.done[image] = true
}

// where is on the file system that holds the images; "" if the runtime does not say where.
func (f *flusher) where(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	fs, err := f.rt.ImageFsInfo(ctx)
	if err != nil || len(fs.ImageFilesystems) == 0 || fs.ImageFilesystems[0].FsID == nil {
		return "", err
	}
	return fs.ImageFilesystems[0].FsID.Mountpoint, nil
}
