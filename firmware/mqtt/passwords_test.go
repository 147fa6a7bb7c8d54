package mqtt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwords")
	line := func(user, password string) string {
		t.Helper()
		s, err := HashPassword(user, password)
		if err != nil {
			t.Fatal(err)
		}
		return s + "\n"
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := newPasswords(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(user, password string, want bool) {
		t.Helper()
		if ok, err := p.check(user, []byte(password)); ok != want || err != nil {
			t.Errorf("%s, %q: %v, %v", user, password, ok, err)
		}
	}
	if ok, err := p.check("pump", []byte("x")); ok || err == nil {
		t.Errorf("without a file: %v, %v", ok, err)
	}
	write("# the pump\n\n" + line("pump", "a b=c{}") + line("app", "other"))
	check("pump", "a b=c{}", true)
	check("pump", "a b=c{}", true) // from what is known
	check("pump", "other", false)
	check("pump", "", false)
	check("app", "other", true)
	check("nobody", "other", false)
	write(line("pump", "changed-password"))
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	check("pump", "a b=c{}", false)
	check("pump", "changed-password", true)
	check("app", "other", false)
	write("pump:geheim\n")
	if ok, err := p.check("pump", []byte("geheim")); ok || err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a wrong file: %v, %v", ok, err)
	}
	for _, bad := range [][2]string{{"a b", "x"}, {"", "x"}, {"a", ""}, {"a", strings.Repeat("x", maxPassword+1)}} {
		if s, err := HashPassword(bad[0], bad[1]); err == nil {
			t.Errorf("%q: %s", bad, s)
		}
	}
}

func FuzzPasswords(f *testing.F) {
	s, err := HashPassword("pump", "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(s + "\n#\n"))
	f.Add([]byte("a:$scrypt$ln=99,r=8,p=1$AAAA$AAAA"))
	f.Fuzz(func(t *testing.T, text []byte) {
		users, err := parsePasswords(text)
		if err != nil {
			return
		}
		for user, h := range users {
			if !ValidUser(user) || 128<<h.log*h.r > maxScryptMem || len(h.sum) < 16 || h.p > 4 {
				t.Errorf("%q: %+v", user, h)
			}
		}
	})
}
