package orphans

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

var lost, pods, others, short = strings.Repeat("a1", 32), strings.Repeat("b2", 32), strings.Repeat("c3", 32), "deadbeef"

// folders makes the folders of a CNI: its configuration, host-local's notes and the cache.
func folders(t *testing.T, conf string) (network, *libcni.CNIConfig, string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // the plugin has to be executable
			t.Fatal(err)
		}
	}
	write("net.d/10-a.conflist", strings.ReplaceAll(conf, "DIR", dir))
	write("net.d/20-b.conflist", `{"cniVersion":"0.4.0","name":"later","plugins":[{"type":"log","ipam":{"type":"host-local","dataDir":"`+dir+`/later"}}]}`)
	write("later/later/10.9.0.2", lost+"\r\neth0")
	write("ipam/pods/10.1.0.2", lost+"\r\nnet1")
	write("ipam/pods/10.1.0.3", others+"\r\neth0")
	write("ipam/pods/10.1.0.4", pods+"\neth0\n")
	write("ipam/pods/10.1.0.5", short+"\r\neth0")
	write("ipam/pods/10.1.0.6", "")
	write("ipam/pods/10.1.0.7", strings.Repeat("x", noteLimit+1))
	write("ipam/pods/fd00::2", lost)
	write("ipam/pods/last_reserved_ip.0", lost)
	write("ipam/pods/lock", "")
	entry := `{"kind":"cniCacheV1","containerId":%q,"config":"","ifName":"eth0","networkName":%q,"cniArgs":%s}`
	write("cache/results/1", fmt.Sprintf(entry, others, "pods", `[["IgnoreUnknown","1"],["K8S_POD_NAME","podman"]]`))
	write("cache/results/2", fmt.Sprintf(entry, pods, "pods", `[["K8S_POD_UID","p"]]`))
	write("cache/results/3", fmt.Sprintf(entry, strings.Repeat("d4", 32), "another", `[["K8S_POD_UID","q"]]`))
	write("bin/log", "#!/bin/sh\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME <$CNI_NETNS>\" >>"+dir+"/called\ncat >>"+dir+"/called\n")
	n := network{confDir: filepath.Join(dir, "net.d"), binDirs: []string{filepath.Join(dir, "bin")}}
	return n, libcni.NewCNIConfigWithCacheDir(n.binDirs, filepath.Join(dir, "cache"), nil), dir
}

const conflist = `{"cniVersion":"0.4.0","name":"pods","plugins":[{"type":"log","ipam":{"type":"host-local","dataDir":"DIR/ipam"}},{"type":"log"}]}`

func nobody(string) bool { return false }

// What is alive keeps its address, whatever the runtime says.
func TestAliveAttachments(t *testing.T) {
	n, cni, dir := folders(t, conflist)
	entry := fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"config":"","ifName":"eth0","networkName":"pods","netns":"/run/netns/x","cniArgs":[["K8S_POD_UID","u"]]}`, lost)
	if err := os.WriteFile(filepath.Join(dir, "cache", "results", "4"), []byte(entry), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := attachmentsOf(n, cni, func(path string) bool { return path == "/run/netns/x" })
	if want := []attachment{{pods, "eth0"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestAttachments(t *testing.T) {
	n, cni, _ := folders(t, conflist)
	got, err := attachmentsOf(n, cni, nobody)
	if err != nil {
		t.Fatal(err)
	}
	want := []attachment{{pods, "eth0"}, {lost, "net1"}, {lost, "eth0"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// A network of one plugin may be a file of its own.
func TestOnePlugin(t *testing.T) {
	n, cni, dir := folders(t, conflist)
	conf := `{"cniVersion":"0.3.1","name":"pods","type":"log","ipam":{"type":"host-local","dataDir":"` + dir + `/ipam"}}`
	if err := os.WriteFile(filepath.Join(n.confDir, "00-first.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := attachmentsOf(n, cni, nobody)
	if err != nil || !slices.Contains(got, attachment{lost, "net1"}) {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := detachFrom(t.Context(), n, cni, attachment{lost, "net1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "called")); err != nil {
		t.Errorf("the plugin was not called: %v", err)
	}
}

func TestNoNetwork(t *testing.T) {
	n := network{confDir: filepath.Join(t.TempDir(), "none")}
	if got, err := attachmentsOf(n, libcni.NewCNIConfigWithCacheDir(nil, t.TempDir(), nil), nobody); err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestBadConfiguration(t *testing.T) {
	for _, text := range []string{"", "{", `{"cniVersion":"0.4.0"}`, `{"cniVersion":"0.4.0","name":"x","plugins":[]}`} {
		n, cni, _ := folders(t, text)
		if got, err := attachmentsOf(n, cni, nobody); err == nil {
			t.Errorf("%q: got %v and no error", text, got)
		}
	}
}

func TestDetach(t *testing.T) {
	n, cni, dir := folders(t, conflist)
	if err := detachFrom(t.Context(), n, cni, attachment{lost, "net1"}); err != nil {
		t.Fatal(err)
	}
	called, err := os.ReadFile(filepath.Join(dir, "called"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(called), "DEL "+lost+" net1 <>"); n != 2 || strings.Count(string(called), `"name":"pods"`) != 2 {
		t.Errorf("two plugins were to be called, of network pods:\n%s", called)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(lost + "\r\neth0"))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "10.0.0.1")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := noteOf(path)
		if err != nil || len(a.container) > noteLimit || a.ifName == "" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}
