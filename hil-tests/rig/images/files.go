package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// File is one file of an image: what is at Host on this machine, or a symbolic link.
type File struct {
	Path string // in the image, without a leading slash
	Host string // path on this machine; empty: a link
	Link string // the link's target
}

// FromFiles returns an image of files of this machine. Its one layer is not compressed: programs of a hundred megabytes are served on loopback.
func FromFiles(arch string, files []File, c ImageConfig) (v1.Image, error) {
	content, err := filesTar(files)
	if err != nil {
		return nil, fmt.Errorf("make an image's layer: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer(content, types.DockerUncompressedLayer))
	if err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make an image: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Env = append([]string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
	config.Config.Entrypoint, config.Config.User = c.Entrypoint, c.User
	return mutate.ConfigFile(image, config)
}

func filesTar(files []File) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true}
	var folder func(name string) error
	folder = func(name string) error {
		if made[name] {
			return nil
		}
		made[name] = true
		return errors.Join(folder(path.Dir(name)), w.WriteHeader(&tar.Header{Name: name + "/", Mode: 0o755, Typeflag: tar.TypeDir, ModTime: time.Unix(0, 0)}))
	}
	for _, f := range files {
		if made[f.Path] {
			continue
		}
		if err := folder(path.Dir(f.Path)); err != nil {
			return nil, err
		}
		made[f.Path] = true
		h := &tar.Header{Name: f.Path, Mode: 0o755, Typeflag: tar.TypeSymlink, Linkname: f.Link, ModTime: time.Unix(0, 0)}
		var data []byte
		if f.Host != "" {
			var err error
			if data, err = os.ReadFile(f.Host); err != nil {
				return nil, err
			}
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// Programs returns programs of this machine at their own paths, with the libraries that they are linked to.
func Programs(ctx context.Context, paths ...string) ([]File, error) {
	var files []File
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			return nil, fmt.Errorf("look for a program: %w", err)
		}
		files = append(files, File{Path: strings.TrimPrefix(p, "/"), Host: real})
		out, err := exec.CommandContext(ctx, "ldd", real).Output() //nolint:gosec // a program of this machine
		if err != nil {
			return nil, fmt.Errorf("list the libraries of %s: %w", p, err)
		}
		for word := range strings.FieldsSeq(string(out)) { // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)"
			if filepath.IsAbs(word) {
				files = append(files, File{Path: strings.TrimPrefix(word, "/"), Host: word})
			}
		}
	}
	slices.SortStableFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(files, func(a, b File) bool { return a.Path == b.Path }), nil
}
