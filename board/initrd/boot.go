package initrd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board/verity"
)

// ErrRoot says that the slot's root is not what the boot script names: it was altered, or written incompletely.
var ErrRoot = errors.New("the root does not match the slot's root hash")

const diskWait = 20 * time.Second

// Boot makes the slot's root ready at m.Root, with its data. What remains is to make it the root and to start its /sbin/init.
func Boot(m *Machine, c CommandLine) error {
	var root, data partition
	if !wait(diskWait, func() (ok bool) {
		all := m.partitions()
		if root, ok = find(all, c.root(), ""); ok {
			data, ok = find(all, dataPartition, root.disk)
		}
		return ok
	}) {
		return fmt.Errorf("after %v there is no disk with the partitions %s and %s; there are: %s", diskWait, c.root(), dataPartition, list(m.partitions()))
	}
	if err := m.mountRoot(root, c); err != nil {
		return err
	}
	if err := m.growPartition(data); err != nil {
		m.say("the data partition is left as large as it is: %v", err)
	}
	if err := m.memory(); err != nil {
		return err
	}
	if err := m.mountData(data, c.Slot); err != nil {
		return err
	}
	return m.state()
}

func list(all []partition) string {
	out := "none"
	for i, p := range all {
		if i == 0 {
			out = ""
		} else {
			out += ", "
		}
		out += p.name + " (" + p.device + ")"
	}
	return out
}

// mountRoot maps the root through dm-verity and mounts it. The kernel checks each block as it is read, so a mount that succeeds has only proven the
// tree's top and the squashfs' own tables; a wrong block later restarts the machine.
func (m *Machine) mountRoot(p partition, c CommandLine) error {
	f, err := os.Open(m.dev(p.device))
	if err != nil {
		return fmt.Errorf("open %s: %w", p.name, err)
	}
	defer f.Close()
	head := make([]byte, verity.BlockSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read %s: %w", p.name, err)
	}
	blocks, err := verity.Squashfs(head)
	if err != nil {
		return fmt.Errorf("%s (%s): %w", p.name, p.device, err)
	}
	if _, err := f.ReadAt(head, int64(blocks*verity.BlockSize)); err != nil {
		return fmt.Errorf("read the hash tree of %s: %w", p.name, err)
	}
	s, err := verity.ParseSuperblock(head)
	if err != nil {
		return fmt.Errorf("%s (%s): %w", p.name, p.device, err)
	}
	table, err := s.Table(m.dev(p.device), blocks, c.RootHash)
	if err != nil {
		return err
	}
	device, err := m.Kernel.Verity("root", s.Sectors(), table)
	if err != nil {
		return fmt.Errorf("map %s through dm-verity: %w", p.name, err)
	}
	if err := os.MkdirAll(m.Root, 0o755); err != nil {
		return err
	}
	if err := m.Kernel.Mount(device, m.Root, "squashfs", unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount %s (%s): %w: %w", p.name, p.device, ErrRoot, err)
	}
	// Programs of the root need devices.
	if err := m.Kernel.Mount(m.Dev, filepath.Join(m.Root, "dev"), "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move /dev: %w", err)
	}
	return nil
}

// memory mounts what is in memory only.
func (m *Machine) memory() error {
	for _, t := range []struct{ at, options string }{{"var", "mode=755,size=25%"}, {"tmp", "mode=1777,size=25%"}} {
		if err := m.Kernel.Mount("tmpfs", filepath.Join(m.Root, t.at), "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, t.options); err != nil {
			return fmt.Errorf("mount /%s: %w", t.at, err)
		}
	}
	return nil
}
