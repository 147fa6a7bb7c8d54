package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Options say what to make of a file.
type Options struct {
	Platform Platform // of this machine
	Name     string   // for the only image of a file that does not name it; empty: the file's own names
}

// Descriptor names content: type, digest, size in bytes.
type Descriptor struct {
	MediaType, Digest string
	Size              int64
}

// Image is one image that will be imported.
type Image struct {
	Name     string     // in full, with its tag
	Platform Platform   // what it is for
	Target   Descriptor // what the name stands for: a manifest, or an index of manifests

	repo   string
	config string // its digest is the image's id at the runtime
	fit    int
	blobs  []blob // what is needed comes before what needs it
}

// ID is the digest of the image's configuration, by which runtimes know it.
func (i *Image) ID() string { return i.config }

// Size returns the bytes that the image takes in the file.
func (i *Image) Size() (n int64) {
	for _, b := range i.blobs {
		n += b.Size
	}
	return n
}

// blob is one piece of content, from an entry of the archive or made here.
type blob struct {
	descriptor
	path   string
	text   []byte
	diffID string            // of a layer: digest of what it is without compression
	labels map[string]string // what else it needs, for containerd's garbage collector
}

// Plan is what will be written. Make it with Archive.Plan.
type Plan struct {
	Images []*Image
	a      *Archive
}

// Plan reads what images the archive has, and picks those for the machine.
func (a *Archive) Plan(o Options) (*Plan, error) {
	p := &Plan{a: a}
	var err error
	switch {
	case a.has("index.json"):
		err = a.layout(o, p)
	case a.has("manifest.json"):
		err = a.dockerSave(o, p)
	default:
		err = errors.New("the file has neither index.json (OCI layout) nor manifest.json (docker save): it is no image")
	}
	if err == nil && len(p.Images) > maxImages {
		err = fmt.Errorf("the file names %d images; at most %d are taken", len(p.Images), maxImages)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plan) reader(b *blob) (*io.SectionReader, error) {
	if b.text != nil {
		return io.NewSectionReader(bytes.NewReader(b.text), 0, int64(len(b.text))), nil
	}
	return p.a.open(b.path)
}

// each calls do for every blob once.
func (p *Plan) each(ctx context.Context, do func(img *Image, b *blob) error) error {
	seen := map[string]bool{}
	for _, img := range p.Images {
		for i := range img.blobs {
			b := &img.blobs[i]
			if seen[b.Digest] {
				continue
			}
			seen[b.Digest] = true
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(img, b); err != nil {
				return fmt.Errorf("%s: %w", img.Name, err)
			}
		}
	}
	return nil
}

// Verify reads everything and compares sizes and digests, those of decompressed layers included (gzip and uncompressed ones; zstd is left
// to the runtime, which compares them when it unpacks).
func (p *Plan) Verify(ctx context.Context) error {
	return p.each(ctx, func(_ *Image, b *blob) error {
		r, err := p.reader(b)
		if err != nil {
			return err
		}
		if r.Size() != b.Size {
			return fmt.Errorf("%s has %d bytes in the file, its descriptor says %d: the file is damaged", b.Digest, r.Size(), b.Size)
		}
		raw := sha256.New()
		from := io.TeeReader(&interruptible{ctx, r}, raw)
		var plain hash.Hash
		if b.diffID != "" {
			if plain, err = decompress(from, r); err != nil {
				return fmt.Errorf("layer %s: %w", b.Digest, err)
			}
		}
		if _, err := io.Copy(io.Discard, from); err != nil {
			return fmt.Errorf("read %s: %w", b.Digest, err)
		}
		if sum := "sha256:" + hex.EncodeToString(raw.Sum(nil)); sum != b.Digest {
			return fmt.Errorf("content that should be %s is %s: the file is damaged", b.Digest, sum)
		}
		if plain == nil {
			return nil
		}
		if sum := "sha256:" + hex.EncodeToString(plain.Sum(nil)); sum != b.diffID {
			return fmt.Errorf("layer %s holds %s, the image's configuration wants %s: the image is damaged", b.Digest, sum, b.diffID)
		}
		return nil
	})
}

// decompress hashes what a layer is without compression; nil if that cannot be told here.
func decompress(from io.Reader, at io.ReaderAt) (hash.Hash, error) {
	var magic [6]byte
	n, err := at.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h := sha256.New()
	switch compression(magic[:n]) {
	case "":
	case "gzip":
		if from, err = gzip.NewReader(from); err != nil {
			return nil, err
		}
	default:
		return nil, nil
	}
	if _, err := io.Copy(h, from); err != nil {
		return nil, err
	}
	return h, nil
}

// interruptible ends reading with its context: a layer may have gigabytes.
type interruptible struct {
	ctx context.Context //nolint:containedctx // lives for one reading
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// Store takes images in. What is written under a lease is kept until the lease ends, then only if a name needs it.
type Store interface {
	Has(ctx context.Context, digest string) (bool, error)
	Write(ctx context.Context, d Descriptor, labels map[string]string, from io.Reader) error
	Label(ctx context.Context, digest string, labels map[string]string) error // content that is there
	Tag(ctx context.Context, name string, target Descriptor) error
}

// Write puts the images into a store. The names come after all content is there.
func (p *Plan) Write(ctx context.Context, s Store) error {
	err := p.each(ctx, func(_ *Image, b *blob) error {
		there, err := s.Has(ctx, b.Digest)
		if err != nil {
			return err
		}
		if there {
			return s.Label(ctx, b.Digest, b.labels)
		}
		r, err := p.reader(b)
		if err != nil {
			return err
		}
		return s.Write(ctx, Descriptor{b.MediaType, b.Digest, b.Size}, b.labels, &interruptible{ctx, r})
	})
	if err != nil {
		return err
	}
	for _, img := range p.Images {
		for _, n := range []string{img.Name, img.repo + "@" + img.Target.Digest} { // as a pull has it: pods may pin the digest
			if err := s.Tag(ctx, n, img.Target); err != nil {
				return err
			}
		}
	}
	return nil
}
