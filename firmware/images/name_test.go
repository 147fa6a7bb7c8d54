package images

import (
	"strings"
	"testing"
)

func TestReferences(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	for s, want := range map[string]string{
		"busybox":                                     "docker.io/library/busybox  ",
		"team/app:1.4":                                "docker.io/team/app 1.4 ",
		"index.docker.io/busybox":                     "docker.io/library/busybox  ",
		"localhost/app":                               "localhost/app  ",
		"127.0.0.1:5000/app:1":                        "127.0.0.1:5000/app 1 ",
		"[2001:db8::7]:5000/a/b/c:x":                  "[2001:db8::7]:5000/a/b/c x ",
		"Registry.Example.org/app":                    "Registry.Example.org/app  ",
		"PLANT/app:1":                                 "PLANT/app 1 ", // a host without a dot, as a name in the plant's DNS
		"registry.example.org/a/b:1@sha256:" + sum:    "registry.example.org/a/b 1 sha256:" + sum,
		"registry.example.org/a__b-c.d@sha256:" + sum: "registry.example.org/a__b-c.d  sha256:" + sum,
	} {
		r, err := ParseReference(s)
		if got := r.Repository() + " " + r.Tag + " " + r.Digest; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " app", "app 1", "App", "registry.example.org/App:1", "app:", "app::1", "app:1:2", "a//b", "app@", "app@sha256:12", "app@sha256:" + strings.ToUpper(sum), "app@sha256:" + sum + "0",
		"app:-1", "/app", "app/", "reg:x/app", sum, strings.Repeat("a/", 200) + "a", "app:" + strings.Repeat("x", 129), "http://registry.example.org/app:1", "app@sha256:" + sum + "@sha256:" + sum,
	} {
		if r, err := ParseReference(s); err == nil {
			t.Errorf("%q: %+v", s, r)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	f.Add("registry.example.org:5000/a/b:1.4@sha256:" + strings.Repeat("0", 64))
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		full := r.Repository()
		if r.Tag != "" {
			full += ":" + r.Tag
		}
		if r.Digest != "" {
			full += "@" + r.Digest
		}
		if again, err := ParseReference(full); err != nil || again != r {
			t.Errorf("%q is %+v, and %q is %+v, %v", s, r, full, again, err)
		}
	})
}
