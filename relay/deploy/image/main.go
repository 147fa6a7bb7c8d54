// Command image puts the relay's static binary into an OCI image, without Dockerfile, daemon or base image: one layer with
// /skerry-relay, run as user 65532. `make image-relay` runs it for amd64 and arm64; the same binaries make the same image, byte
// for byte.
//
//	go run ./relay/deploy/image -out build/skerry-relay.oci.tar -name skerry-relay:0.1.0 amd64=build/linux-amd64/skerry-relay …
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	out := flag.String("out", "", "`file` to write: an OCI image layout as tar")
	name := flag.String("name", "skerry-relay:latest", "`reference` that the image gets when the file is imported")
	flag.Parse()
	if err := run(*out, *name, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(out, name string, binaries []string) error {
	index, err := build(binaries)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "skerry-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	_, tag, ok := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
	if !ok {
		return fmt.Errorf("%q has no tag", name)
	}
	notes := map[string]string{"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name}
	if err := l.AppendIndex(index, layout.WithAnnotations(notes)); err != nil {
		return err
	}
	return pack(dir, out)
}

// build makes one image for each ARCH=FILE, and the index of them.
func build(binaries []string) (v1.ImageIndex, error) {
	if len(binaries) == 0 {
		return nil, fmt.Errorf("no binary: give ARCH=FILE, such as arm64=build/linux-arm64/skerry-relay")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range binaries {
		arch, file, ok := strings.Cut(b, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not ARCH=FILE", b)
		}
		image, err := imageOf(arch, file)
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", arch, err)
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	return index, nil
}

func imageOf(arch, file string) (v1.Image, error) {
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "skerry-relay", Mode: 0o755, Size: int64(len(binary)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.Write(binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{Entrypoint: []string{"/skerry-relay"}, User: "65532:65532"}
	return mutate.ConfigFile(image, config)
}

// pack writes dir as tar, without times and owners.
func pack(dir, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(body)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if end := f.Close(); err == nil {
		err = end
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return nil
}
