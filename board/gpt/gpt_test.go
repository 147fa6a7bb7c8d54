package gpt

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func sample() Table {
	return Table{Disk: GUID{1, 2, 3}, Sectors: 65536, Partitions: []Partition{
		{Name: "boot", Type: BasicData, ID: GUID{4}, First: 2048, Last: 4095, Attributes: Bootable},
		{Name: "data", Type: Linux, ID: GUID{5}, First: 4096, Last: 8191},
	}}
}

// TestRoundTrip: what was written is read, and nothing of it changes unseen. sfdisk --verify and sgdisk -v found no fault in the table with this hash.
func TestRoundTrip(t *testing.T) {
	want := sample()
	head := want.Primary()
	got, err := Parse(head)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
	all := sha256.Sum256(append(head, want.Backup()...))
	if sum := hex.EncodeToString(all[:]); sum != known {
		t.Errorf("the table has the hash %s, want %s", sum, known)
	}
	if at := want.BackupOffset(); at != (65536-33)*512 || len(want.Backup()) != 33*512 {
		t.Errorf("the backup of %d bytes begins at %d", len(want.Backup()), at)
	}
}

const known = "8366c2150901464333290757448321ff48572929b7b63ab6ea8badcecd702042"

func TestParseRefuses(t *testing.T) {
	good := sample().Primary()
	for what, change := range map[string]func([]byte) []byte{
		"no GUID partition table": func(b []byte) []byte { b[512] = 0; return b },
		"header":                  func(b []byte) []byte { b[512+56]++; return b },
		"entries":                 func(b []byte) []byte { b[1024+60]++; return b },
		"less than":               func(b []byte) []byte { return b[:600] },
		"outside": func([]byte) []byte {
			t := sample()
			t.Partitions[1].Last = 65535
			return t.Primary()
		},
	} {
		if _, err := Parse(change(append([]byte(nil), good...))); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestGrow(t *testing.T) {
	grown, ok := sample().Grow(131072)
	if !ok || grown.Sectors != 131072 || grown.Partitions[1].Last != 131072-2048-1 {
		t.Errorf("%+v, %v", grown, ok)
	}
	if got, err := Parse(grown.Primary()); err != nil || got.Partitions[1].Last != grown.Partitions[1].Last {
		t.Errorf("%+v, %v", got, err)
	}
	for _, sectors := range []uint64{65536, 1000} {
		if _, ok := sample().Grow(sectors); ok {
			t.Errorf("grew to %d sectors", sectors)
		}
	}
	if again, ok := grown.Grow(131073); ok {
		t.Errorf("a sector more grew it to %+v", again)
	}
	if _, ok := (Table{Sectors: 100}).Grow(200); ok {
		t.Error("a table without partitions grew")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Primary())
	f.Fuzz(func(t *testing.T, b []byte) {
		if table, err := Parse(b); err == nil {
			_, _ = table.Grow(table.Sectors * 2)
		}
	})
}
