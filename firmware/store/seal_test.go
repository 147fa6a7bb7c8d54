package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func TestSealerBindsEverything(t *testing.T) {
	s := testSealer(t)
	ad := appendAD(nil, recKey{SpaceTwin, "key"}, 7, false)
	sealed, err := s.Seal(nil, []byte("value"), ad)
	if err != nil || len(sealed) != len("value")+sealOverhead {
		t.Fatal(sealed, err)
	}
	if got, err := s.Open(nil, sealed, ad); err != nil || string(got) != "value" {
		t.Fatal(got, err)
	}
	for name, other := range map[string][]byte{
		"space":    appendAD(nil, recKey{SpacePod, "key"}, 7, false),
		"key":      appendAD(nil, recKey{SpaceTwin, "kex"}, 7, false),
		"version":  appendAD(nil, recKey{SpaceTwin, "key"}, 8, false),
		"deletion": appendAD(nil, recKey{SpaceTwin, "key"}, 7, true),
	} {
		if _, err := s.Open(nil, sealed, other); !errors.Is(err, ErrUnsealed) {
			t.Errorf("%s is not bound: %v", name, err)
		}
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		if _, err := s.Open(nil, b, ad); !errors.Is(err, ErrUnsealed) {
			t.Errorf("flip at %d opens", i)
		}
	}
	if _, err := s.Open(nil, sealed[:sealOverhead-1], ad); !errors.Is(err, ErrUnsealed) {
		t.Errorf("short value: %v", err)
	}
	again, err := s.Seal(nil, []byte("value"), ad)
	if err != nil || bytes.Equal(sealed, again) {
		t.Error("a nonce was used twice", err)
	}
}

func TestNothingIsStoredInTheClear(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceDesired, "secrets/default/s", "the-plain-secret")
	mustClose(t, s)
	grep := func() {
		t.Helper()
		entries, err := os.ReadDir(opt.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(opt.Dir, e.Name()))
			if err != nil || bytes.Contains(b, []byte("plain-secret")) {
				t.Errorf("%s holds the value in the clear (%v)", e.Name(), err)
			}
		}
	}
	grep()
	s = mustOpen(t, opt)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	grep()
}

// TestSwappedValuesAreNotObeyed exchanges two sealed values in bbolt, as somebody with the disk in his hands could.
func TestSwappedValuesAreNotObeyed(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceDesired, "a", "for a")
	put(t, s, SpaceDesired, "b", "for b")
	put(t, s, SpaceDesired, "c", "for c")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	tamper(t, opt.Dir, func(b *bolt.Bucket) error {
		va, vb := bytes.Clone(b.Get([]byte("a"))), bytes.Clone(b.Get([]byte("b")))
		return errors.Join(b.Put([]byte("a"), vb), b.Put([]byte("b"), va))
	})
	s = mustOpen(t, opt)
	wantNone(t, s, SpaceDesired, "a")
	wantNone(t, s, SpaceDesired, "b")
	want(t, s, SpaceDesired, "c", "for c")
	r := s.Recovery()
	if len(r.Findings) != 2 || r.Findings[0].What != RecordDropped || !strings.Contains(r.String(), "desired b") {
		t.Errorf("recovery: %v", r)
	}
	if s.Metrics().RecordsDropped != 2 {
		t.Errorf("metrics: %+v", s.Metrics())
	}
	// The relay sends them again.
	put(t, s, SpaceDesired, "a", "for a")
	mustClose(t, s)
	s = mustOpen(t, opt)
	want(t, s, SpaceDesired, "a", "for a")
	wantNone(t, s, SpaceDesired, "b")
	if len(s.Recovery().Findings) != 0 {
		t.Errorf("found again: %v", s.Recovery())
	}
}

func TestValueAlteredWhileOpenIsDropped(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceDesired, "a", "1")
	put(t, s, SpaceDesired, "b", "2")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("desired"))
		v := bytes.Clone(b.Get([]byte("a")))
		v[len(v)-1] ^= 1
		return b.Put([]byte("a"), v)
	})
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, s, SpaceDesired, "a")
	wantNone(t, s, SpaceDesired, "a")
	want(t, s, SpaceDesired, "b", "2")
	if r := s.Recovery(); len(r.Findings) != 1 || r.Findings[0].What != RecordDropped {
		t.Errorf("recovery: %v", r)
	}
	put(t, s, SpaceDesired, "a", "3")
	want(t, s, SpaceDesired, "a", "3")
}

func tamper(t *testing.T, dir string, fn func(*bolt.Bucket) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, dbName), 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error { return fn(tx.Bucket([]byte("desired"))) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestForgedDeletionIsIgnored appends a frame with a right checksum and a deletion without our seal.
func TestForgedDeletionIsIgnored(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceDesired, "a", "1")
	id, seq := s.wal.id, s.seq
	mustClose(t, s)
	frame := beginFrame(nil, seq+1, 2)
	frame = appendChange(frame, change{recKey: recKey{SpaceDesired, "a"}, del: true, sealed: make([]byte, sealOverhead)})
	frame = appendChange(frame, change{recKey: recKey{SpaceDesired, "evil"}, sealed: []byte("not sealed")})
	endFrame(frame, 0, id)
	path := oneSegment(t, opt.Dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(b, frame...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, opt)
	want(t, s, SpaceDesired, "a", "1")
	wantNone(t, s, SpaceDesired, "evil")
	if n := s.Metrics().RecordsDropped; n != 2 {
		t.Errorf("%d records dropped, %v", n, s.Recovery())
	}
}

func TestOtherKeySetsFilesAside(t *testing.T) {
	opt := testOptions(t, t.TempDir())
	s := mustOpen(t, opt)
	put(t, s, SpaceTwin, "a", "1")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	put(t, s, SpaceTwin, "b", "1")
	epoch := s.Epoch()
	mustClose(t, s)
	other, err := NewSealer(bytes.Repeat([]byte{8}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	opt.Sealer = other
	s = mustOpen(t, opt)
	if got := all(t, s); len(got) != 0 {
		t.Errorf("read with another key: %v", got)
	}
	r := s.Recovery()
	if len(r.Findings) != 2 || r.Findings[0].What != OtherKey || r.Findings[1].What != OtherKey {
		t.Errorf("recovery: %v", r)
	}
	if s.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", s.Epoch(), epoch)
	}
	put(t, s, SpaceTwin, "c", "1")
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	want(t, mustOpen(t, opt), SpaceTwin, "c", "1")
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "seal.key")
	first, err := OpenKeyFile(path)
	if err != nil || len(first.repairs) != 0 {
		t.Fatal(err, first.repairs)
	}
	same := func(step string, repairs int) {
		t.Helper()
		s, err := OpenKeyFile(path)
		if err != nil || s.KeyID() != first.KeyID() || len(s.repairs) != repairs {
			t.Fatalf("%s: %v, same key %v, repairs %q", step, err, err == nil && s.KeyID() == first.KeyID(), s.repairs)
		}
	}
	same("again", 0)
	for _, p := range []string{path, path + ".copy"} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		b[20] ^= 1
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		same("one copy damaged", 2)
		same("repaired", 0)
		if err := os.Truncate(p, 10); err != nil {
			t.Fatal(err)
		}
		same("one copy cut", 2)
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
		same("one copy missing", 1)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".copy"} {
		if err := os.WriteFile(p, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenKeyFile(path)
	if err != nil || s.KeyID() == first.KeyID() || len(s.repairs) == 0 {
		t.Fatalf("both copies damaged: %v, repairs %q", err, s.repairs)
	}
	opt := testOptions(t, t.TempDir())
	opt.Sealer = s
	if r := mustOpen(t, opt).Recovery(); len(r.Findings) == 0 || r.Findings[0].What != KeyRepaired {
		t.Errorf("recovery: %v", r)
	}
	left, err := filepath.Glob(path + "*new-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestKeyFilesThatDiffer(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "k"), filepath.Join(t.TempDir(), "k")
	if _, err := OpenKeyFile(a); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyFile(b); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(b, a+".copy"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyFile(a); err == nil || !strings.Contains(err.Error(), "differ") {
		t.Errorf("two different keys: %v", err)
	}
}
