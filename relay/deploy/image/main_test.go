package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func TestImage(t *testing.T) {
	dir := t.TempDir()
	var args []string
	for _, arch := range []string{"amd64", "arm64"} {
		file := filepath.Join(dir, arch)
		if err := os.WriteFile(file, []byte("binary for "+arch), 0o755); err != nil {
			t.Fatal(err)
		}
		args = append(args, arch+"="+file)
	}
	var files [2][]byte
	for i := range files {
		out := filepath.Join(dir, "out.tar")
		if err := run(out, "registry.invalid:5000/skerry/skerry-relay:1.2", args); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = b
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same binaries make different images")
	}
	unpacked := filepath.Join(dir, "layout")
	for r := tar.NewReader(bytes.NewReader(files[0])); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(unpacked, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	top, err := layout.ImageIndexFromPath(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	m, err := top.IndexManifest()
	if err != nil || len(m.Manifests) != 1 || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1.2" {
		t.Fatalf("index: %+v, %v", m, err)
	}
	index, err := top.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = index.IndexManifest(); err != nil || len(m.Manifests) != 2 {
		t.Fatalf("images: %+v, %v", m, err)
	}
	for _, d := range m.Manifests {
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		c, err := image.ConfigFile()
		if err != nil || c.Architecture != d.Platform.Architecture || c.Config.User != "65532:65532" || c.Config.Entrypoint[0] != "/skerry-relay" {
			t.Errorf("configuration: %+v, %v", c, err)
		}
		layers, err := image.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(content)
		h, err := r.Next()
		if err != nil || h.Name != "skerry-relay" || h.Mode != 0o755 {
			t.Errorf("layer: %+v, %v", h, err)
		}
		if b, _ := io.ReadAll(r); string(b) != "binary for "+c.Architecture {
			t.Errorf("content %q", b)
		}
	}
}

func TestWrongArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"amd64"}, {"amd64=/does/not/exist"}} {
		if err := run(filepath.Join(t.TempDir(), "out"), "relay:1", args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	if err := run(filepath.Join(t.TempDir(), "out"), "relay", []string{"amd64=main.go"}); err == nil || !strings.Contains(err.Error(), "no tag") {
		t.Errorf("no tag: %v", err)
	}
}
