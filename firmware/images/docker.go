package images

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// saved is one image of manifest.json, which docker save writes.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerSave plans the images of a docker save. Its layers have no digests in the file, so they are made here, and a manifest with them.
func (a *Archive) dockerSave(o Options, p *Plan) error {
	var list []saved
	if _, err := a.document("manifest.json", &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("manifest.json names no image")
	}
	for i := range list {
		s := &list[i]
		tags := s.RepoTags
		if o.Name != "" {
			if len(list) > 1 {
				return errors.New("the file has several images: a name cannot be given")
			}
			tags = []string{o.Name}
		}
		if len(tags) == 0 {
			return errors.New("the file gives no name for an image: say it with -name REPOSITORY:TAG")
		}
		img, err := a.savedImage(s, o)
		if err != nil {
			return fmt.Errorf("%s: %w", tags[0], err)
		}
		for _, t := range tags {
			n, err := parseName(t)
			if err != nil {
				return err
			}
			one := *img
			one.Name, one.repo = n.String(), n.repo
			p.Images = append(p.Images, &one)
		}
	}
	return nil
}

func (a *Archive) savedImage(s *saved, o Options) (*Image, error) {
	var c config
	raw, err := a.document(s.Config, &c)
	if err != nil {
		return nil, err
	}
	fit := c.fits(o.Platform)
	if fit == 0 {
		return nil, &platformError{is: c.Platform.String(), want: o.Platform}
	}
	if len(s.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the image has %d layers, its configuration %d", len(s.Layers), len(c.RootFS.DiffIDs))
	}
	img := &Image{Platform: c.Platform, fit: fit}
	m := manifest{SchemaVersion: 2, MediaType: ociManifest, Config: &descriptor{MediaType: ociConfig, Digest: digestOf(raw), Size: int64(len(raw))}}
	img.config = m.Config.Digest
	labels := map[string]string{"containerd.io/gc.ref.content.config": img.config}
	for i, path := range s.Layers {
		r, err := a.open(path)
		if err != nil {
			return nil, err
		}
		d := descriptor{MediaType: ociLayer, Size: r.Size()}
		var magic [6]byte
		n, err := r.ReadAt(magic[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		switch kind := compression(magic[:n]); kind {
		case "":
		case "gzip", "zstd":
			d.MediaType += "+" + kind
		default:
			return nil, fmt.Errorf("layer %s is compressed with %s, which the runtime does not know", path, kind)
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		d.Digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
		m.Layers = append(m.Layers, d)
		labels[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = d.Digest
		img.blobs = append(img.blobs, blob{descriptor: d, path: path, diffID: c.RootFS.DiffIDs[i]})
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	target := descriptor{MediaType: ociManifest, Digest: digestOf(text), Size: int64(len(text))}
	img.Target = Descriptor{target.MediaType, target.Digest, target.Size}
	img.blobs = append(img.blobs, blob{descriptor: *m.Config, path: s.Config}, blob{descriptor: target, text: text, labels: labels})
	return img, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
