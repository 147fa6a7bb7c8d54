package verity

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func data(blocks int) []byte {
	b := make([]byte, blocks*BlockSize)
	for i := range b {
		b[i] = byte(i/BlockSize*31 + i%251)
	}
	return b
}

// TestTree compares with what `veritysetup format --salt=0102…20 --uuid=…` and `veritysetup verify` (cryptsetup 2.6.1) say of the same data, with one, two and three levels.
func TestTree(t *testing.T) {
	salt, err := hex.DecodeString("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20")
	if err != nil {
		t.Fatal(err)
	}
	for blocks, want := range map[int]struct {
		root string
		size int
	}{
		2:     {"80f903e18520db1fdd27d882666fb3edbb377d4bc60faa8a1e5371bf9a1248d0", 2},
		128:   {"f54b0bb8b5cae7bbc7890ac1d6bce08c52b506747f2b7922d0d895cf636cfbf0", 2},
		129:   {"b1e4559a1b71075a6fc04d2e62e42808d6647750642a3fcc1be34e2daff9bf85", 4},
		16385: {"3f298fe6c70546356d0cf973c7c74c989dce1854834cd7c1b24cc07854bf27e1", 133},
	} {
		s := Superblock{UUID: [16]byte{15: 1}, Blocks: uint64(blocks), Salt: salt}
		tree, root, err := Tree(bytes.NewReader(data(blocks)), s)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(root[:]); got != want.root || len(tree) != want.size*BlockSize {
			t.Errorf("%d blocks: root hash %s and %d blocks of tree, want %s and %d", blocks, got, len(tree)/BlockSize, want.root, want.size)
		}
		if got, err := ParseSuperblock(tree); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%d blocks: superblock %+v, %v; want %+v", blocks, got, err, s)
		}
	}
}

func TestTreeRefuses(t *testing.T) {
	if _, _, err := Tree(bytes.NewReader(data(3)), Superblock{Blocks: 4}); err == nil {
		t.Error("a tree of data that is too short was made")
	}
	for _, s := range []Superblock{{Blocks: 1}, {Blocks: maxBlocks + 1}, {Blocks: 2, Salt: make([]byte, 257)}} {
		if _, _, err := Tree(bytes.NewReader(nil), s); err == nil {
			t.Errorf("%d blocks with %d bytes of salt were taken", s.Blocks, len(s.Salt))
		}
	}
}

func TestTable(t *testing.T) {
	s := Superblock{Blocks: 10, Salt: []byte{0xab}}
	root := strings.Repeat("0f", 32)
	got, err := s.Table("/dev/vda6", 10, root)
	if want := "1 /dev/vda6 /dev/vda6 4096 4096 10 11 sha256 " + root + " ab 1 restart_on_corruption"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if s.Sectors() != 80 {
		t.Errorf("%d sectors", s.Sectors())
	}
	for _, bad := range []string{"", "0f", strings.Repeat("x", 64), root + " 1"} {
		if _, err := s.Table("/dev/vda6", 10, bad); err == nil {
			t.Errorf("root hash %q was taken", bad)
		}
	}
}

func TestSquashfs(t *testing.T) {
	b := make([]byte, 96)
	copy(b, "hsqs")
	b[41] = 0x20 // 8192 bytes
	if n, err := Squashfs(b); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	b[40] = 1
	if n, err := Squashfs(b); err != nil || n != 3 {
		t.Errorf("%d, %v", n, err)
	}
	b[47] = 0xff
	if _, err := Squashfs(b); err == nil {
		t.Error("an impossible size was taken")
	}
	if _, err := Squashfs([]byte("hsqs")); err == nil {
		t.Error("four bytes were taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Superblock{Blocks: 3, Salt: []byte("salt")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err == nil {
			again, err := ParseSuperblock(s.encode())
			if err != nil || !reflect.DeepEqual(again, s) {
				t.Errorf("%+v became %+v, %v", s, again, err)
			}
		}
		_, _ = Squashfs(b)
	})
}
