package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

// Runtime tells what images there are. *cri.Client implements it.
type Runtime interface {
	Version(ctx context.Context) (*cri.VersionResponse, error)
	ImageStatus(ctx context.Context, image *cri.ImageSpec, verbose bool) (*cri.ImageStatusResponse, error)
}

// LeasedStore is a Store that keeps what is being written. *containerd.Client implements it.
type LeasedStore interface {
	Store
	Lease(ctx context.Context, id string) (leased context.Context, release func(context.Context) error, err error)
}

// Importer imports files into a runtime. One goroutine uses it.
type Importer struct {
	Runtime Runtime
	Store   LeasedStore
	// Note is told which images came, by their id at the runtime, so that nobody removes them when the disk fills up. It is called
	// before the import counts as done.
	Note  func(images map[string]string) error
	Spool string        // folder for what does not come as a plain file
	Wait  time.Duration // how long CRI may take to show an image; default 30 s
}

const showEvery = 100 * time.Millisecond

// Import imports the images of a tar file, which may be compressed with gzip or come through a pipe. The images are at the runtime when
// it returns, and their names say so at CRI.
func (im *Importer) Import(ctx context.Context, f *os.File, o Options) ([]*Image, error) {
	if err := im.fits(ctx); err != nil {
		return nil, err
	}
	f, done, err := im.plain(ctx, f)
	if err != nil {
		return nil, err
	}
	defer done()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	a, err := Open(f, info.Size())
	if err != nil {
		return nil, err
	}
	p, err := a.Plan(o)
	if err == nil {
		err = p.Verify(ctx)
	}
	if err != nil {
		return nil, err
	}
	leased, release, err := im.Store.Lease(ctx, fmt.Sprintf("skerry-import-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		return nil, unknownService(err)
	}
	err = p.Write(leased, im.Store)
	if err == nil {
		err = im.shown(ctx, p)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := errors.Join(err, release(end)); err != nil {
		return nil, err
	}
	return p.Images, nil
}

// fits refuses runtimes that take no images this way.
func (im *Importer) fits(ctx context.Context) error {
	v, err := im.Runtime.Version(ctx)
	if err != nil {
		return err
	}
	switch v.RuntimeName {
	case "containerd":
		return nil
	case "cri-o":
		return errors.New("the container runtime is CRI-O, which takes images from its own tools only: " +
			"`skopeo copy oci-archive:FILE containers-storage:NAME` or `podman load -i FILE` (as root, on this gateway) do what this command does")
	default:
		return fmt.Errorf("the container runtime is %s; images can be imported into containerd only: use the runtime's own tool", v.RuntimeName)
	}
}

func unknownService(err error) error {
	if errors.Is(err, cri.ErrUnimplemented) {
		return fmt.Errorf("the container runtime does not serve containerd's API on this socket: %w", err)
	}
	return err
}

// shown waits until CRI knows the images, and notes them.
func (im *Importer) shown(ctx context.Context, p *Plan) error {
	limit := im.Wait
	if limit == 0 {
		limit = 30 * time.Second
	}
	deadline := time.Now().Add(limit)
	noted := map[string]string{}
	for _, img := range p.Images {
		for {
			s, err := im.Runtime.ImageStatus(ctx, &cri.ImageSpec{Image: img.Name}, false)
			if err != nil {
				return err
			}
			if s.Image != nil && s.Image.ID == img.ID() {
				noted[s.Image.ID] = img.Name
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s was imported, but the runtime's CRI service does not show it after %v: see the runtime's log", img.Name, limit)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(showEvery):
			}
		}
	}
	return im.Note(noted)
}

// plain returns a file that can be read at any place: f itself, or a copy of it without compression that done removes.
func (im *Importer) plain(ctx context.Context, f *os.File) (plain *os.File, done func(), err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	var from io.Reader = f
	var magic [6]byte
	regular := info.Mode().IsRegular()
	if regular {
		n, err := f.ReadAt(magic[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		if compression(magic[:n]) == "" {
			return f, func() {}, nil
		}
		from = io.NewSectionReader(f, 0, info.Size())
	}
	out, err := os.CreateTemp(im.Spool, "image-import-*.tar")
	if err != nil {
		return nil, nil, fmt.Errorf("make a temporary file: %w", err)
	}
	done = func() {
		_ = out.Close()
		_ = os.Remove(out.Name())
	}
	if err := spool(out, &interruptible{ctx, from}); err != nil {
		done()
		return nil, nil, fmt.Errorf("decompress into %s: %w", im.Spool, err)
	}
	return out, done, nil
}

// spool copies a stream without its compression.
func spool(out io.Writer, from io.Reader) error {
	var magic [6]byte
	n, err := io.ReadFull(from, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	from = io.MultiReader(bytes.NewReader(magic[:n]), from)
	switch kind := compression(magic[:n]); kind {
	case "":
	case "gzip":
		if from, err = gzip.NewReader(from); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w with %s: decompress it first (%s -d)", ErrCompressed, kind, kind)
	}
	_, err = io.Copy(out, from)
	return err
}
