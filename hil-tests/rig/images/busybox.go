package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// ImageConfig is what Busybox puts into an image's configuration beside its files.
type ImageConfig struct {
	User       string   // user or user:group, by name or number; empty: root
	Env        []string // KEY=VALUE
	Entrypoint []string
	StopSignal string
	Volumes    []string
	// WorkingDir is the working folder; empty: none is set.
	WorkingDir string
}

// busyboxUsers are the users and groups of the image; app also belongs to extra, which is in the image only.
const (
	busyboxPasswd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
	busyboxGroup  = "root:x:0:\napp:x:1000:\nextra:x:50000:app\nnobody:x:65534:\n"
)

// Busybox returns an image of this machine's static busybox (Debian's busybox-static) with a link for each applet, a shell as its command,
// and the users root, app (1000) and nobody.
func Busybox(ctx context.Context, arch string, c ImageConfig) (v1.Image, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("busybox is not installed (%w): install it with `apt-get install busybox-static`", err)
	}
	applets, err := exec.CommandContext(ctx, path, "--list").Output() //nolint:gosec // the busybox just found
	if err != nil {
		return nil, fmt.Errorf("list the applets of %s: %w", path, err)
	}
	content, err := busyboxTar(path, strings.Fields(string(applets)))
	if err != nil {
		return nil, fmt.Errorf("make the layer of busybox: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make the layer of busybox: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("make image of busybox: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make image of busybox: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config.Env = append([]string{"PATH=/bin"}, c.Env...)
	config.Config.Cmd = []string{"sh"}
	config.Config.Entrypoint, config.Config.User, config.Config.StopSignal, config.Config.WorkingDir = c.Entrypoint, c.User, c.StopSignal, c.WorkingDir
	for _, v := range c.Volumes {
		if config.Config.Volumes == nil {
			config.Config.Volumes = map[string]struct{}{}
		}
		config.Config.Volumes[v] = struct{}{}
	}
	return mutate.ConfigFile(image, config)
}

func busyboxTar(path string, applets []string) ([]byte, error) {
	binary, err := os.ReadFile(path) //nolint:gosec // found on the PATH
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data []byte) error {
		h.ModTime, h.Size = time.Unix(0, 0), int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	for _, d := range []struct {
		name string
		mode int64
		uid  int
	}{{"bin/", 0o755, 0}, {"etc/", 0o755, 0}, {"tmp/", 0o1777, 0}, {"root/", 0o700, 0}, {"home/", 0o755, 0}, {"home/app/", 0o755, 1000}, {"srv/", 0o755, 0}} {
		err = errors.Join(err, add(tar.Header{Name: d.name, Mode: d.mode, Typeflag: tar.TypeDir, Uid: d.uid, Gid: d.uid}, nil))
	}
	err = errors.Join(err, add(tar.Header{Name: "etc/passwd", Mode: 0o644, Typeflag: tar.TypeReg}, []byte(busyboxPasswd)),
		add(tar.Header{Name: "etc/group", Mode: 0o644, Typeflag: tar.TypeReg}, []byte(busyboxGroup)))
	err = errors.Join(err, add(tar.Header{Name: "bin/busybox", Mode: 0o755, Typeflag: tar.TypeReg}, binary))
	for _, a := range applets {
		if a != "busybox" {
			err = errors.Join(err, add(tar.Header{Name: "bin/" + a, Linkname: "busybox", Mode: 0o777, Typeflag: tar.TypeSymlink}, nil))
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
