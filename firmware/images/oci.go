package images

import (
	"errors"
	"fmt"
	"strings"
)

// Media types (OCI image-spec v1.1, and Docker's of the same meaning).
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	ociConfig      = "application/vnd.oci.image.config.v1+json"
	ociLayer       = "application/vnd.oci.image.layer.v1.tar"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// Annotations of an OCI layout's index that name an image: containerd's has the whole name, OCI's may have only the tag.
const (
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// manifest is an index or the manifest of one image.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// config is what is read of an image's configuration.
type config struct {
	Platform
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func (d *descriptor) isIndex() bool { return d.MediaType == ociIndex || d.MediaType == dockerList }

func (d *descriptor) isManifest() bool {
	return d.MediaType == ociManifest || d.MediaType == dockerManifest
}

func blobPath(d string) string { return "blobs/" + strings.Replace(d, ":", "/", 1) }

// check refuses a descriptor that cannot be looked up.
func (d *descriptor) check() error {
	if !digest.MatchString(d.Digest) {
		return fmt.Errorf("digest %q: only sha256 is supported", d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s has a negative size", d.Digest)
	}
	return nil
}

// layout plans the images of an OCI layout.
func (a *Archive) layout(o Options, p *Plan) error {
	var top manifest
	if _, err := a.document("index.json", &top); err != nil {
		return err
	}
	if len(top.Manifests) == 0 {
		return errors.New("index.json names no image")
	}
	// Several manifests under one name are one image for several platforms.
	best := map[string]*Image{}
	var order []string
	var refused error
	for i := range top.Manifests {
		d := &top.Manifests[i]
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation
		}
		n, err := a.nameOf(d, o, len(top.Manifests))
		if err != nil {
			return err
		}
		img, err := a.image(d, o, 0)
		if errors.As(err, new(*platformError)) {
			refused = fmt.Errorf("%s: %w", n, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
		img.Name, img.repo = n.String(), n.repo
		old := best[img.Name]
		if old == nil {
			order = append(order, img.Name)
		}
		if old == nil || img.fit > old.fit {
			best[img.Name] = img
		}
	}
	if len(order) == 0 {
		return refused
	}
	for _, n := range order {
		p.Images = append(p.Images, best[n])
	}
	return nil
}

// nameOf returns the name that an image of a layout is to have.
func (a *Archive) nameOf(d *descriptor, o Options, images int) (name, error) {
	full, short := d.Annotations[annotationName], d.Annotations[annotationRef]
	switch {
	case o.Name != "" && images > 1 && (full != "" || short != ""):
		return name{}, errors.New("the file has several images with names of their own: a name cannot be given")
	case o.Name != "":
		return parseName(o.Name)
	case full != "":
		return parseName(full)
	case strings.ContainsAny(short, "/:"):
		return parseName(short)
	case short != "":
		return name{}, fmt.Errorf("the file gives only the tag %q, not the name: say it with -name REPOSITORY:%s", short, short)
	default:
		return name{}, errors.New("the file gives no name: say it with -name REPOSITORY:TAG")
	}
}

// image plans what a descriptor of an index stands for.
func (a *Archive) image(d *descriptor, o Options, depth int) (*Image, error) {
	const deepest = 3
	if err := d.check(); err != nil {
		return nil, err
	}
	var m manifest
	if _, err := a.document(blobPath(d.Digest), &m); err != nil {
		return nil, err
	}
	if d.MediaType == "" {
		d.MediaType = m.MediaType
	}
	switch {
	case d.isManifest():
		return a.single(d, &m, o)
	case d.isIndex() && depth < deepest:
	default:
		return nil, fmt.Errorf("%s is of type %q: neither an image nor an index of images", d.Digest, d.MediaType)
	}
	var best *Image
	var chosen string
	var have []string
	for i := range m.Manifests {
		sub := &m.Manifests[i]
		if sub.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		if sub.Platform != nil {
			have = append(have, sub.Platform.String())
			if sub.Platform.fits(o.Platform) == 0 {
				continue
			}
		}
		if !a.has(blobPath(sub.Digest)) {
			continue // a tool has left out what it did not have
		}
		img, err := a.image(sub, o, depth+1)
		if errors.As(err, new(*platformError)) {
			have = append(have, err.(*platformError).is) //nolint:errorlint // image returns it as it is
			continue
		}
		if err != nil {
			return nil, err
		}
		if best == nil || img.fit > best.fit {
			best, chosen = img, sub.Digest
		}
	}
	if best == nil {
		return nil, &platformError{is: strings.Join(have, ", "), want: o.Platform}
	}
	labels := map[string]string{}
	for i := range m.Manifests { // all of them, as a pull has it: those that are not there are no error
		labels[fmt.Sprintf("containerd.io/gc.ref.content.m.%d", i)] = m.Manifests[i].Digest
	}
	labels["containerd.io/gc.ref.content.m"] = chosen
	best.blobs = append(best.blobs, blob{descriptor: *d, path: blobPath(d.Digest), labels: labels})
	best.Target = Descriptor{d.MediaType, d.Digest, d.Size}
	return best, nil
}

// single plans one image for one platform.
func (a *Archive) single(d *descriptor, m *manifest, o Options) (*Image, error) {
	if m.Config == nil {
		return nil, fmt.Errorf("manifest %s has no configuration", d.Digest)
	}
	if err := m.Config.check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var c config
	if _, err := a.document(blobPath(m.Config.Digest), &c); err != nil {
		return nil, err
	}
	fit := c.fits(o.Platform)
	if fit == 0 {
		return nil, &platformError{is: c.Platform.String(), want: o.Platform}
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("manifest %s has %d layers, its configuration %d", d.Digest, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	img := &Image{Platform: c.Platform, Target: Descriptor{d.MediaType, d.Digest, d.Size}, config: m.Config.Digest, fit: fit}
	labels := map[string]string{"containerd.io/gc.ref.content.config": m.Config.Digest}
	for i := range m.Layers {
		l := &m.Layers[i]
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		labels[fmt.Sprintf("containerd.io/gc.ref.content.l.%d", i)] = l.Digest
		img.blobs = append(img.blobs, blob{descriptor: *l, path: blobPath(l.Digest), diffID: c.RootFS.DiffIDs[i]})
	}
	img.blobs = append(img.blobs, blob{descriptor: *m.Config, path: blobPath(m.Config.Digest)}, blob{descriptor: *d, path: blobPath(d.Digest), labels: labels})
	return img, nil
}

// platformError says that an image is not for this machine.
type platformError struct {
	is   string
	want Platform
}

func (e *platformError) Error() string {
	return fmt.Sprintf("the image is for %s, this gateway is %s: build or save it for %s", e.is, e.want, e.want)
}
