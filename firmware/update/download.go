package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/update/chunks"
)

// Downloader brings bundles to the folder of updates: from a server in chunks, or from a file (a USB stick), which is copied, since the stick may be pulled.
type Downloader struct {
	Client  func() (*http.Client, error) // asked for at each download from a server
	Rate    int64                        // bytes per second; 0: as fast as it goes
	Reserve int64                        // bytes of the disk that stay free
	Seeds   []string                     // the partitions of the slot that runs
	Most    int64                        // bytes that a bundle has at most: what a slot can hold; 0: chunks.MaxSize
}

// ErrFile is wrapped by errors about a file on this machine, which nobody brings by trying again.
var ErrFile = errors.New("the bundle's file cannot be used")

// Fatal says that an error of Download is one that trying again does not mend.
func Fatal(err error) bool { return errors.Is(err, ErrFile) || chunks.Fatal(err) }

// Download is Options.Download.
func (d Downloader) Download(ctx context.Context, bundle, dir string, progress func(percent int)) (string, error) {
	if strings.HasPrefix(bundle, "/") {
		return d.copy(ctx, bundle, filepath.Join(dir, BundleFile), progress)
	}
	client, err := d.Client()
	if err != nil {
		return "", err
	}
	f := chunks.Fetcher{Client: client, Rate: d.Rate, Reserve: d.Reserve, Seeds: d.Seeds, Most: d.Most, Progress: func(p chunks.Progress) {
		if all := p.Fetched + p.Missing; all > 0 {
			progress(int(100 * p.Fetched / all))
		}
	}}
	return f.Fetch(ctx, bundle, dir)
}

func (d Downloader) most() int64 {
	if d.Most > 0 {
		return d.Most
	}
	return chunks.MaxSize
}

// BundleOf is how many bytes a bundle can have whose images fill the partitions of these paths: beside them it has RAUC's manifest and signature, a squashfs around them,
// and a hash tree of one part in 127. 0: one of them does not say how large it is.
func BundleOf(partitions []string) (most int64) {
	for _, path := range partitions {
		f, err := os.Open(filepath.Clean(path))
		if err != nil {
			return 0
		}
		n, err := f.Seek(0, io.SeekEnd)
		if err = errors.Join(err, f.Close()); err != nil || n == 0 {
			return 0
		}
		most += n
	}
	return most + most/64 + 1<<20
}

func (d Downloader) copy(ctx context.Context, from, to string, progress func(percent int)) (string, error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0) //nolint:gosec // root has named it; a FIFO must not hang the agent
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrFile, err)
	}
	defer in.Close() //nolint:errcheck // only read
	st, err := in.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrFile, err)
	case !st.Mode().IsRegular() || st.Size() == 0:
		return "", fmt.Errorf("%w: %s is no bundle", ErrFile, from)
	case st.Size() > d.most():
		return "", fmt.Errorf("%w: %s has %d bytes, and at most %d (what a slot of this gateway can hold) are taken", ErrFile, from, st.Size(), d.most())
	}
	if err := chunks.Room(filepath.Dir(to), st.Size()+d.Reserve); err != nil {
		return "", err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // the agent's own
	if err != nil {
		return "", err
	}
	for done := int64(0); done < st.Size() && err == nil; {
		var n int64
		if n, err = io.CopyN(out, in, 1<<20); errors.Is(err, io.EOF) {
			err = nil
			if done += n; done < st.Size() {
				err = fmt.Errorf("%w: %s ends early", ErrFile, from)
			}
			break
		}
		done += n
		progress(int(100 * done / st.Size()))
		err = errors.Join(err, ctx.Err())
	}
	if err == nil {
		err = out.Sync()
	}
	return to, errors.Join(err, out.Close())
}
