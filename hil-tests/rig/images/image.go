package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// Compile builds the main package pkg (a path relative to moduleDir, like ./hil-tests/images/sample) as a static Linux
// binary for arch into out. The Go command's cache makes a second call cheap.
func Compile(ctx context.Context, moduleDir, pkg, arch, out string) error {
	turn, err := os.OpenFile(filepath.Clean(out)+".lock", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	defer turn.Close()                                               //nolint:errcheck // it gives the lock back
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil { //nolint:gosec // a descriptor fits
		return fmt.Errorf("wait for another build of %s: %w", pkg, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = moduleDir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOARM=7")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s for %s: %w\n%s", pkg, arch, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// FromBinary returns an image that holds the binary at path as /NAME and starts it, a minimal /etc/passwd (root, nobody)
// and an empty /tmp. env entries are KEY=VALUE. The image is the same for the same binary, arch and env.
func FromBinary(path, arch string, env ...string) (v1.Image, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the image's program: %w", err)
	}
	name := filepath.Base(path)
	content, err := layerTar(name, binary)
	if err != nil {
		return nil, fmt.Errorf("make the layer of %s: %w", name, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("make the layer of %s: %w", name, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", name, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make image %s: %w", name, err)
	}
	config = config.DeepCopy()
	// containerd leaves out an image without its own platform.
	config.OS, config.Architecture = "linux", arch
	if arch == "arm" {
		config.Variant = "v7"
	}
	config.Config.Entrypoint = []string{"/" + name}
	config.Config.Env = append([]string{"PATH=/"}, env...)
	config.Config.WorkingDir = "/"
	return mutate.ConfigFile(image, config)
}

func layerTar(name string, binary []byte) ([]byte, error) {
	const passwd = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
	const group = "root:x:0:\nnobody:x:65534:\n"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"etc/", 0o755, nil},
		{"etc/passwd", 0o644, []byte(passwd)},
		{"etc/group", 0o644, []byte(group)},
		{"tmp/", 0o1777, nil},
		{name, 0o755, binary},
	} {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
