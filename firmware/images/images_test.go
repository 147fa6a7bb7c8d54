package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gcrname "github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// testImage makes an image with two layers; another one for each seed.
func testImage(t *testing.T, seed int64, platform string) v1.Image {
	t.Helper()
	img, err := random.Image(3000, 2, random.WithSource(newRand(seed)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = p.OS, p.Arch, p.Variant
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// layoutTar makes an OCI layout with one index or image for each name.
func layoutTar(t *testing.T, parts map[string]any) []byte {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for n, part := range parts {
		annotations := layout.WithAnnotations(map[string]string{annotationName: n})
		if short, ok := strings.CutPrefix(n, "tag:"); ok {
			annotations = layout.WithAnnotations(map[string]string{annotationRef: short})
		}
		switch part := part.(type) {
		case v1.Image:
			err = l.AppendImage(part, annotations)
		case v1.ImageIndex:
			err = l.AppendIndex(part, annotations)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func multiArch(t *testing.T, platforms ...string) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i, s := range platforms {
		p, err := ParsePlatform(s)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: testImage(t, int64(i+1), s), Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant}}})
	}
	return index
}

func dockerTar(t *testing.T, img v1.Image, names ...string) []byte {
	t.Helper()
	all := map[gcrname.Tag]v1.Image{}
	for _, n := range names {
		tag, err := gcrname.NewTag(n)
		if err != nil {
			t.Fatal(err)
		}
		all[tag] = img
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(all, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// memory is a store that holds what containerd would.
type memory struct {
	content map[string][]byte
	labels  map[string]map[string]string
	names   map[string]Descriptor
	wrote   []string
	fail    string // digest that cannot be written
}

func newMemory() *memory {
	return &memory{content: map[string][]byte{}, labels: map[string]map[string]string{}, names: map[string]Descriptor{}}
}

func (m *memory) Has(_ context.Context, d string) (bool, error) { return m.content[d] != nil, nil }

func (m *memory) Write(_ context.Context, d Descriptor, labels map[string]string, from io.Reader) error {
	if d.Digest == m.fail {
		return errors.New("disk full")
	}
	b, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	if int64(len(b)) != d.Size || digestOf(b) != d.Digest {
		return fmt.Errorf("content of %s is not what it should be", d.Digest)
	}
	m.content[d.Digest], m.labels[d.Digest] = b, labels
	m.wrote = append(m.wrote, d.Digest)
	return nil
}

func (m *memory) Label(_ context.Context, d string, labels map[string]string) error {
	m.labels[d] = labels
	return nil
}

func (m *memory) Tag(_ context.Context, n string, target Descriptor) error {
	m.names[n] = target
	return nil
}

// reachable returns what containerd's garbage collector would keep for a digest.
func (m *memory) reachable(d string) []string {
	out := []string{d}
	for k, v := range m.labels[d] {
		if strings.HasPrefix(k, "containerd.io/gc.ref.content.") && m.content[v] != nil {
			out = append(out, m.reachable(v)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func importBytes(t *testing.T, data []byte, o Options, m *memory) (*Plan, error) {
	t.Helper()
	a, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	p, err := a.Plan(o)
	if err != nil {
		return nil, err
	}
	if err := p.Verify(t.Context()); err != nil {
		return nil, err
	}
	return p, p.Write(t.Context(), m)
}

var armv7 = Options{Platform: Platform{OS: "linux", Arch: "arm", Variant: "v7"}}

func TestImportDockerSave(t *testing.T) {
	img := testImage(t, 1, "linux/arm/v7")
	m := newMemory()
	p, err := importBytes(t, dockerTar(t, img, "app:1", "registry.example.org/x/app:2"), armv7, m)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"docker.io/library/app:1", "registry.example.org/x/app:2"} {
		target, ok := m.names[n]
		if !ok {
			t.Fatalf("names %v", m.names)
		}
		if _, ok := m.names[strings.Split(n, ":")[0]+"@"+target.Digest]; !ok {
			t.Errorf("%s is not there by its digest: %v", n, m.names)
		}
		if got := m.reachable(target.Digest); len(got) != 4 || !slices.Contains(got, want.String()) {
			t.Errorf("%s keeps %v, want manifest, configuration and 2 layers", n, got)
		}
	}
	if len(p.Images) != 2 || p.Images[0].ID() != want.String() || len(m.wrote) != 4 {
		t.Errorf("images %+v, written %v", p.Images, m.wrote)
	}
	if _, err := importBytes(t, dockerTar(t, img, "app:1"), armv7, m); err != nil || len(m.wrote) != 4 {
		t.Errorf("the second time: %v, written %v", err, m.wrote)
	}
}

func TestImportLayoutPicksPlatform(t *testing.T) {
	index := multiArch(t, "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64")
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	p, err := importBytes(t, layoutTar(t, map[string]any{"registry.example.org/app:1.4": index}), armv7, m)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Images[0]; got.Platform.String() != "linux/arm/v7" || got.Target.Digest != want.String() || m.names["registry.example.org/app:1.4"].Digest != want.String() {
		t.Errorf("image %+v, names %v", got, m.names)
	}
	if got := m.reachable(want.String()); len(got) != 5 || len(m.wrote) != 5 { // index, manifest, configuration, 2 layers
		t.Errorf("keeps %v, written %v", got, m.wrote)
	}
	v6 := multiArch(t, "linux/amd64", "linux/arm/v6")
	if p, err = importBytes(t, layoutTar(t, map[string]any{"app:1": v6}), armv7, newMemory()); err != nil || p.Images[0].Platform.Variant != "v6" {
		t.Errorf("an older variant runs too: %v", err)
	}
	if _, err = importBytes(t, layoutTar(t, map[string]any{"app:1": multiArch(t, "linux/amd64", "linux/arm64")}), armv7, newMemory()); err == nil ||
		!strings.Contains(err.Error(), "docker.io/library/app:1: the image is for linux/amd64, linux/arm64, this gateway is linux/arm/v7") {
		t.Errorf("no image for this machine: %v", err)
	}
}

func TestImportNames(t *testing.T) {
	img := testImage(t, 1, "linux/arm/v7")
	named := armv7
	named.Name = "registry.example.org/given:7"
	for what, c := range map[string]struct {
		data []byte
		o    Options
		want string
		err  string
	}{
		"only a tag":            {data: layoutTar(t, map[string]any{"tag:1.4": img}), o: armv7, err: "-name REPOSITORY:1.4"},
		"a whole name as tag":   {data: layoutTar(t, map[string]any{"tag:ghcr.io/x/y:1": img}), o: armv7, want: "ghcr.io/x/y:1"},
		"given for a layout":    {data: layoutTar(t, map[string]any{"tag:1.4": img}), o: named, want: named.Name},
		"given for docker save": {data: dockerTar(t, img, "app:1"), o: named, want: named.Name},
		"given for two": {data: layoutTar(t, map[string]any{"a:1": img, "b:1": testImage(t, 2, "linux/arm/v7")}), o: named,
			err: "a name cannot be given"},
		"bad name": {data: dockerTar(t, img, "app:1"), o: Options{Platform: armv7.Platform, Name: "Not A Name"}, err: "no name of an image"},
	} {
		m := newMemory()
		_, err := importBytes(t, c.data, c.o, m)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v", what, err)
		case c.err == "" && (err != nil || m.names[c.want].Digest == ""):
			t.Errorf("%s: names %v, %v", what, m.names, err)
		case c.err != "" && len(m.names)+len(m.wrote) > 0:
			t.Errorf("%s: something was imported: %v", what, m.names)
		}
	}
}

// TestDamageIsFound flips a byte of each entry's content, in turn, and cuts the file: either nothing is written, or all is what the
// digests say.
func TestDamageIsFound(t *testing.T) {
	for kind, data := range map[string][]byte{
		"layout": layoutTar(t, map[string]any{"app:1": testImage(t, 1, "linux/arm/v7")}),
		"docker": dockerTar(t, testImage(t, 1, "linux/arm/v7"), "app:1"),
	} {
		refused := 0
		a, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for name, e := range a.entries {
			damaged := bytes.Clone(data)
			damaged[e.offset+e.size/2] ^= 0x20
			m := newMemory()
			_, err := importBytes(t, damaged, armv7, m)
			if err != nil {
				refused++
				if len(m.wrote)+len(m.names) > 0 {
					t.Errorf("%s, %s damaged: %v, but written were %v", kind, name, err, m.wrote)
				}
			}
		}
		if refused < 3 { // layers and documents; a letter of a document that is not read may change
			t.Errorf("%s: only %d of %d damages were found", kind, refused, len(a.entries))
		}
		m := newMemory()
		if _, err := importBytes(t, data[:len(data)*2/3], armv7, m); err == nil || len(m.wrote) > 0 {
			t.Errorf("%s, cut: %v, written %v", kind, err, m.wrote)
		}
	}
}

func TestWriteFailsWithoutNames(t *testing.T) {
	img := testImage(t, 1, "linux/arm/v7")
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	m.fail = id.String()
	if _, err := importBytes(t, dockerTar(t, img, "app:1"), armv7, m); err == nil || len(m.names) > 0 || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v, names %v", err, m.names)
	}
}

func TestOtherFiles(t *testing.T) {
	var empty, gz bytes.Buffer
	_ = tar.NewWriter(&empty).Close()
	z := gzip.NewWriter(&gz)
	_, _ = z.Write(empty.Bytes())
	_ = z.Close()
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty tar": {empty.Bytes(), "it is no image"}, "text": {[]byte(strings.Repeat("hello world ", 100)), "no whole tar file"}, "gzip": {gz.Bytes(), "compressed"}, "nothing": {nil, "no image"},
	} {
		if _, err := importBytes(t, c.data, armv7, newMemory()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLinksStayInside(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "a/layer.tar", Typeflag: tar.TypeReg, Size: 2}, {Name: "b/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../a/layer.tar"},
		{Name: "c", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"}, {Name: "d", Typeflag: tar.TypeSymlink, Linkname: "d"}, {Name: "e", Typeflag: tar.TypeLink, Linkname: "a/layer.tar"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte("hi"))
		}
	}
	_ = w.Close()
	a, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]bool{"b/layer.tar": true, "./a/layer.tar": true, "e": true, "c": false, "d": false} {
		if a.has(n) != want {
			t.Errorf("%s: %v, want %v", n, a.has(n), want)
		}
	}
}

func TestPlatformOrder(t *testing.T) {
	at := func(s string) Platform {
		p, err := ParsePlatform(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		image, host string
		runs        bool
	}{
		{"linux/arm", "linux/arm/v7", true}, {"linux/arm/v8", "linux/arm/v7", false}, {"linux/arm/v5", "linux/arm/v7", true}, {"linux/arm64", "linux/arm64", true},
		{"linux/arm64/v8", "linux/arm64", true}, {"linux/amd64/v3", "linux/amd64", false}, {"windows/amd64", "linux/amd64", false}, {"linux/arm/v7", "linux/arm64", false},
	} {
		if got := at(c.image).fits(at(c.host)) > 0; got != c.runs {
			t.Errorf("%s on %s: %v", c.image, c.host, got)
		}
	}
	if at("linux/arm/v7").fits(armv7.Platform) <= at("linux/arm/v6").fits(armv7.Platform) {
		t.Error("the machine's own variant is not preferred")
	}
	for _, s := range []string{"", "linux", "/arm", "linux/", "a/b/c/d"} {
		if _, err := ParsePlatform(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add([]byte("no tar"))
	for _, text := range []string{`{"manifests":[{"mediaType":"` + ociIndex + `","digest":"sha256:` + strings.Repeat("a", 64) + `","size":3}]}`, `[{"Config":"c","RepoTags":["a:1"],"Layers":["l"]}]`} {
		for _, n := range []string{"index.json", "manifest.json"} {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			_ = w.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeReg, Size: int64(len(text))})
			_, _ = w.Write([]byte(text))
			_ = w.Close()
			f.Add(b.Bytes())
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMemory()
		if _, err := importBytes(t, data, armv7, m); err != nil && len(m.names) > 0 {
			t.Errorf("names in spite of %v", err)
		}
	})
}

func spoolFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
