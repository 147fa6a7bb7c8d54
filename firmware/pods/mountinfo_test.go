package pods

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMountsBelow(t *testing.T) {
	const text = `21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:30 / /pods/u1/volumes/kubernetes.io~empty-dir/ram rw shared:9 - tmpfs tmpfs rw
31 21 0:31 / /pods/u1/volumes/kubernetes.io~empty-dir/a\040b\134c rw shared:10 - fuse.sshfs host:/ rw
32 21 0:32 / /pods/u10/volumes/x rw - tmpfs tmpfs rw
33 21 0:33 / /pods/u1 rw - ext4 /dev/sdb1 rw
34 21 0:34 / /pods/u1/gone//deleted rw - tmpfs tmpfs rw
short
`
	got, err := mountsBelow(strings.NewReader(text), "/pods/u1")
	want := []string{"/pods/u1/volumes/kubernetes.io~empty-dir/ram", `/pods/u1/volumes/kubernetes.io~empty-dir/a b\c`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := mountsBelow(strings.NewReader(strings.Repeat("x", 2*maxMountLine)), "/pods/u1"); err == nil {
		t.Error("a line without end is taken")
	}
	if list, err := (kernelMounter{}).Below(t.TempDir()); err != nil || len(list) != 0 {
		t.Errorf("%q, %v", list, err)
	}
}

// TestForeignMounts: what a container has mounted in its emptyDir (mountPropagation Bidirectional) is unmounted, and not emptied, when its pod goes.
func TestForeignMounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "u1")
	share := filepath.Join(dir, volumesFolder, pluginEmptyDir, "v", "share")
	if err := os.MkdirAll(share, 0o750); err != nil {
		t.Fatal(err)
	}
	precious := filepath.Join(share, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &fakeMounter{busy: share}
	if err := removePodDir(dir, m); err == nil || !strings.Contains(err.Error(), share) {
		t.Errorf("a mount that stays: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a file was deleted through a mount: %v", err)
	}
	m.busy, m.binds = "", map[string]string{share: "share"}
	if err := removePodDir(dir, m); err != nil || len(m.binds) != 0 {
		t.Errorf("%v, still mounted: %v", err, m.binds)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder stays: %v", err)
	}
}
