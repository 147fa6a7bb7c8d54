package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skerry/skerry/firmware/cri"
)

func newRand(seed int64) rand.Source { return rand.NewSource(seed) }

// peer is a runtime whose CRI shows what its store holds, if it is not blind.
type peer struct {
	*memory
	runtime  string
	blind    bool
	released int
	leaseErr error
	id       string // of every image
}

func (p *peer) Version(context.Context) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeName: p.runtime}, nil
}

func (p *peer) ImageStatus(_ context.Context, image *cri.ImageSpec, _ bool) (*cri.ImageStatusResponse, error) {
	if _, ok := p.names[image.Image]; !ok || p.blind {
		return &cri.ImageStatusResponse{}, nil
	}
	return &cri.ImageStatusResponse{Image: &cri.Image{ID: p.id}}, nil
}

func (p *peer) Lease(ctx context.Context, _ string) (context.Context, func(context.Context) error, error) {
	return ctx, func(context.Context) error { p.released++; return nil }, p.leaseErr
}

func TestImporter(t *testing.T) {
	img := testImage(t, 1, "linux/arm/v7")
	data := dockerTar(t, img, "app:1")
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, _ = z.Write(data)
	_ = z.Close()
	pipe := func(data []byte) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = w.Write(data)
			_ = w.Close()
		}()
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	for name, c := range map[string]struct {
		f    *os.File
		peer peer
		err  string
	}{
		"file":            {f: spoolFile(t, data)},
		"gzip":            {f: spoolFile(t, gz.Bytes())},
		"pipe":            {f: pipe(data)},
		"pipe of gzip":    {f: pipe(gz.Bytes())},
		"xz":              {f: spoolFile(t, []byte("\xfd7zXZ\x00 and so on")), err: "xz -d"},
		"empty pipe":      {f: pipe(nil), err: "it is no image"},
		"CRI-O":           {f: spoolFile(t, data), peer: peer{runtime: "cri-o"}, err: "podman load"},
		"other runtime":   {f: spoolFile(t, data), peer: peer{runtime: "x"}, err: "the container runtime is x"},
		"blind":           {f: spoolFile(t, data), peer: peer{blind: true}, err: "does not show it"},
		"another service": {f: spoolFile(t, data), peer: peer{leaseErr: &cri.Error{Code: cri.ErrUnimplemented}}, err: "does not serve containerd's API"},
	} {
		t.Run(name, func(t *testing.T) {
			spool := t.TempDir()
			p := c.peer
			p.memory, p.id = newMemory(), id.String()
			if p.runtime == "" {
				p.runtime = "containerd"
			}
			noted := map[string]string{}
			im := &Importer{Runtime: &p, Store: &p, Spool: spool, Wait: 300 * time.Millisecond, Note: func(list map[string]string) error { noted = list; return nil }}
			list, err := im.Import(t.Context(), c.f, armv7)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || len(noted) > 0 {
					t.Errorf("error %v, noted %v", err, noted)
				}
			} else if err != nil || len(list) != 1 || noted[id.String()] != "docker.io/library/app:1" || p.released != 1 {
				t.Errorf("%v, %v, noted %v, %d leases released", list, err, noted, p.released)
			}
			if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
				t.Errorf("temporary files stay: %v, %v", left, err)
			}
		})
	}
}

func TestImporterEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &peer{memory: newMemory(), runtime: "containerd"}
	im := &Importer{Runtime: p, Store: p, Spool: t.TempDir()}
	if _, err := im.Import(ctx, spoolFile(t, dockerTar(t, testImage(t, 1, "linux/arm/v7"), "a:1")), armv7); !errors.Is(err, context.Canceled) || len(p.names) > 0 {
		t.Errorf("error %v, names %v", err, p.names)
	}
}
