package provision

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFindMedia: the system's own partition and what hangs on USB are looked at, other disks are not.
func TestFindMedia(t *testing.T) {
	sys := t.TempDir()
	for name, at := range map[string]string{
		"vda3": "devices/pci0/virtio0/block/vda/vda3", "vda8": "devices/pci0/virtio0/block/vda/vda8", "sda1": "devices/pci0/usb1/1-1/host0/block/sda/sda1", "sdb1": "devices/pci0/ata1/block/sdb/sdb1",
	} {
		dir := filepath.Join(sys, at)
		label := map[string]string{"vda3": "provision", "vda8": "data", "sda1": "STICK", "sdb1": "other"}[name]
		for _, d := range []string{dir, filepath.Join(sys, "class/block")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "uevent"), []byte("DEVTYPE=partition\nPARTNAME="+label+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(dir, filepath.Join(sys, "class/block", name)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, m := range FindMedia(sys, "/dev") {
		got = append(got, m.Name()+" "+m.(*fat).device)
	}
	if len(got) != 2 || got[0] != "the USB stick (sda1) /dev/sda1" || got[1] != "the partition provision /dev/vda3" {
		t.Errorf("%q", got)
	}
}
