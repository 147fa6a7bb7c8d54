package images_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"github.com/skerry/skerry/hil-tests/rig/images"
)

func TestPushAndPull(t *testing.T) {
	t.Cleanup(func() {
		goleak.VerifyNone(t, goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
	})
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("not really a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	image, err := images.FromBinary(program, "arm", "KEY=value")
	if err != nil {
		t.Fatal(err)
	}
	again, err := images.FromBinary(program, "arm", "KEY=value")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := again.Digest(); err != nil || other != digest {
		t.Errorf("the same program made images %v and %v, %v", digest, other, err)
	}
	reg, err := images.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Push(t.Context(), "program:7", image); err != nil {
		t.Fatal(err)
	}
	before := reg.Requests("program:7")
	ref, err := name.ParseReference(reg.Ref("program:7"))
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pulled.Digest(); err != nil || got != digest {
		t.Errorf("pulled %v, %v, want %v", got, err, digest)
	}
	if n := reg.Requests("program:7") - before; n != 1 {
		t.Errorf("one pull counted as %d requests", n)
	}
	config, err := pulled.ConfigFile()
	if err != nil || config.OS != "linux" || config.Architecture != "arm" || config.Variant != "v7" ||
		config.Config.Entrypoint[0] != "/program" || config.Config.Env[1] != "KEY=value" {
		t.Errorf("config %+v, %v", config, err)
	}
	for range 2 {
		if err := reg.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := images.Listen("127.0.0.1:99999"); err == nil {
		t.Error("listened on a port that does not exist")
	}
}

func TestCompileNamesWhatFailed(t *testing.T) {
	err := images.Compile(t.Context(), t.TempDir(), "./nothing", "amd64", filepath.Join(t.TempDir(), "x"))
	if err == nil {
		t.Fatal("compiled nothing")
	}
	t.Log(err)
}
