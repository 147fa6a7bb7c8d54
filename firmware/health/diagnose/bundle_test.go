package diagnose

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// unpack returns the files of a bundle.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "skerry-diagnose/")
		if !ok || h.Mode != 0o600 {
			t.Errorf("%s, mode %o", h.Name, h.Mode)
		}
		out[name] = string(text)
	}
}

func bundled(t *testing.T, lists ...[]Source) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, lists...); err != nil {
		t.Fatal(err)
	}
	return unpack(t, b.Bytes())
}

func TestBundleTellsWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		files := bundled(t, []Source{
			Text("good.txt", "all of it\n"),
			{"fails.txt", func(_ context.Context, w io.Writer) error {
				_, _ = io.WriteString(w, "some\n")
				return errors.New("the rest\ncannot be read")
			}},
			{"hangs.txt", func(context.Context, io.Writer) error { <-hang; return nil }},
			{"panics.txt", func(context.Context, io.Writer) error { panic("no") }},
			{"long.txt", func(_ context.Context, w io.Writer) error {
				_, err := w.Write(bytes.Repeat([]byte("x"), 2*MaxFile))
				return err
			}},
			Text("empty.txt", ""),
			Text("last.txt", "last"),
		})
		close(hang)
		if files["good.txt"] != "all of it\n" || files["fails.txt"] != "some\n" || files["last.txt"] != "last" || len(files["long.txt"]) != MaxFile {
			t.Errorf("files: %d of long.txt, %q, %q", len(files["long.txt"]), files["good.txt"], files["fails.txt"])
		}
		for _, name := range []string{"hangs.txt", "panics.txt", "empty.txt"} {
			if text, ok := files[name]; ok {
				t.Errorf("%s is there: %q", name, text)
			}
		}
		for name, want := range map[string]string{
			"good.txt": "10 bytes", "fails.txt": "INCOMPLETE: the rest cannot be read", "hangs.txt": "INCOMPLETE: it did not come in time", "panics.txt": "INCOMPLETE: panic: no",
			"long.txt": "INCOMPLETE: it is longer", "empty.txt": "0 bytes",
		} {
			found := false
			for line := range strings.Lines(files["summary.txt"]) {
				found = found || strings.HasPrefix(line, name+" ") && strings.Contains(line, want)
			}
			if !found {
				t.Errorf("summary does not say of %s %q:\n%s", name, want, files["summary.txt"])
			}
		}
	})
}

func TestBundleIsBounded(t *testing.T) {
	var list []Source
	for i := range 2 * MaxBundle / MaxFile {
		list = append(list, Text(strings.Repeat("a", i+1), strings.Repeat("x", MaxFile)))
	}
	files, total := bundled(t, list), 0
	for name, text := range files {
		if name != "summary.txt" {
			total += len(text)
		}
	}
	if total != MaxBundle || !strings.Contains(files["summary.txt"], "left out: the bundle has its 6 MiB") {
		t.Errorf("%d bytes\n%s", total, files["summary.txt"])
	}
}

// Secrets, in all the clothes in which they may come.
func TestNothingSecretGoesIn(t *testing.T) {
	const secret = "S3cr3tValue0123456789abcdefghijklmnopqrstuvwxyz"
	for name, text := range map[string]string{
		"proxy":     "proxy: http://user:" + secret + "@proxy.example:3128",
		"key":       "-----BEGIN EC PRIVATE KEY-----\n" + secret + "\n-----END EC PRIVATE KEY-----",
		"cut key":   "-----BEGIN PRIVATE KEY-----\n" + secret,
		"jwt":       "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0." + secret,
		"join":      "skt1." + secret,
		"header":    "Authorization: Bearer " + secret,
		"yaml":      "password: " + secret + "\n",
		"json":      `{"token": "` + secret + `", "a": 1}`,
		"attribute": "msg=x apiKey=" + secret,
		"spaces":    `password: "` + secret + ` and more ` + secret + `"`,
	} {
		got := string(newRedactor().redact([]byte("before " + text + " after")))
		if strings.Contains(got, secret) || !strings.Contains(got, "REDACTED") || !strings.HasPrefix(got, "before ") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, text := range []string{
		"relay 192.0.2.7:7443 connected", "http://proxy.example:3128/path", "3 tokens were renewed", "store: 4 objects, 0 events waiting", `level=INFO msg="the key of the store is there"`,
	} {
		if got := string(newRedactor().redact([]byte(text))); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestNothingSecretOfTheConfiguration: by key, in any section and any form.
func TestNothingSecretOfTheConfiguration(t *testing.T) {
	const config = `# password: s3cr3t
node:
  name: gw-1
  labels: {site: north, example.org/api-key: s3cr3t}
  taints: [{key: dedicated, value: plc, effect: NoSchedule}]
relay:
  proxy: "http://user:s3cr3t/with@signs@proxy.example:3128" # s3cr3t
update:
  caFile: /etc/skerry/ca.pem
  tokens: [s3cr3t, s3cr3t]
pods:
  images: {credentialVerification: NeverVerify}
notes: "the password: s3cr3t, Bearer s3cr3t0123"
mqtt:
  password: |
    s3cr3t
    s3cr3t in its second line
  clients: [{name: a, pass: s3cr3t}, {name: b, clientSecret: {value: s3cr3t, more: [s3cr3t]}}]
  empty: {token: "", secret: false}
opcua: {privateKey: !!binary czNjcjN0Cg==, APIKey: &k s3cr3t, keys: *k, pin: 1234567}
---
wifi: {psk: s3cr3t}
`
	got := bundled(t, []Source{Text("config.yaml", config)})["config.yaml"]
	if strings.Contains(got, "s3cr3t") || strings.Contains(got, "czNj") || strings.Contains(got, "1234567") {
		t.Errorf("a secret is left:\n%s", got)
	}
	for _, want := range []string{"name: gw-1", "site: north", "key: dedicated", "http://user:REDACTED@proxy.example:3128", "more: [REDACTED]}}", "caFile: /etc/skerry/ca.pem", "NeverVerify", "name: b", `token: ""`, "secret: false", "psk: REDACTED", "example.org/api-key: REDACTED"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not left in\n%s", want, got)
		}
	}
	for _, text := range []string{"", "\tno: yaml [", "password: x\n\t\tbroken"} { // patterns do what they can
		if got := bundled(t, []Source{Text("config.yaml", text)})["config.yaml"]; strings.Contains(got, ": x") {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte("a: {password: [x, &a y, *a]}\n---\nb: |\n  c\n"))
	f.Fuzz(func(t *testing.T, b []byte) { // aliases may go in circles, and nesting deep
		newRedactor().yaml(b)
	})
}

func TestMachine(t *testing.T) {
	root, data := t.TempDir(), t.TempDir()
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(root, "proc/mounts"), "/dev/x / ext4 rw 0 0\nproc /proc proc rw 0 0\n/dev/y /nowhere-at-all ext4 rw 0 0\n")
	put(filepath.Join(root, "sys/class/watchdog/watchdog0/identity"), "i6300ESB timer\n")
	put(filepath.Join(root, "sys/class/watchdog/watchdog0/bootstatus"), "32\n")
	put(filepath.Join(root, "dev/kmsg"), "6,1,1,-;Linux version\n")
	put(filepath.Join(data, "health/boots.json"), "[]\n")
	put(filepath.Join(data, "health/agent-1-2.txt"), "panic: bug\n")
	put(filepath.Join(data, "seal.key"), "never to be seen")
	put(filepath.Join(data, "identity/key.pem"), "never to be seen")
	put(filepath.Join(data, "pods/uid/volumes/secret/password"), "never to be seen")
	files := bundled(t, Machine(Place{Root: root, DataDir: data, Journal: filepath.Join(data, "health")}))
	for name, want := range map[string]string{
		"versions.txt": "skerry ", "health/boots.json": "[]", "health/agent-1-2.txt": "panic: bug", "machine/proc-mounts.txt": "/dev/x", "machine/watchdogs.txt": "watchdog0: identity=i6300ESB timer bootstatus=32",
		"machine/disks.txt": "\n/ ext4 ", "machine/kernel.log": "Linux version", "machine/files.txt": "seal.key", "machine/interfaces.txt": "lo",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s: %q, want %q", name, files[name], want)
		}
	}
	if !strings.Contains(files["machine/disks.txt"], "/nowhere-at-all ext4: no such file") {
		t.Errorf("disks: %q", files["machine/disks.txt"])
	}
	for name, text := range files {
		if strings.Contains(text, "never to be seen") || strings.Contains(text, "password") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// An agent that does not run costs its own files, and the summary says why.
func TestWithoutAgent(t *testing.T) {
	files := bundled(t, Agent(filepath.Join(t.TempDir(), "none.sock")), []Source{Text("other.txt", "x")})
	if len(files) != 2 || !strings.Contains(files["summary.txt"], "agent/status.json") || strings.Count(files["summary.txt"], "INCOMPLETE: ") != 4 {
		t.Errorf("%v", files)
	}
}

func TestRingKeepsTheNewestLines(t *testing.T) {
	r := NewRing(1000)
	log := r.Also(slog.New(slog.DiscardHandler))
	log.Error("never enabled, so never kept")
	var out bytes.Buffer
	log = r.Also(slog.New(slog.NewTextHandler(&out, nil))).With("part", "link").WithGroup("g")
	log.Debug("not enabled")
	for i := range 500 {
		log.Info("line", "i", i)
	}
	var b bytes.Buffer
	if err := r.Last(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if len(text) > 1000 || len(text) < 900 || !strings.HasPrefix(text, "time=") || !strings.HasSuffix(text, "msg=line part=link g.i=499\n") || strings.Contains(text, "not enabled") {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if strings.Count(out.String(), "\n") != 500 {
		t.Error("the log itself has lost lines")
	}
	if cap(r.buf) > 8<<10 {
		t.Errorf("the ring takes %d bytes", cap(r.buf))
	}
}
