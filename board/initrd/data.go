package initrd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/board/bootenv"
)

// EmptyData is what a data partition begins with on which no file system was made yet: the image builder writes it.
const EmptyData = "skerry: empty data partition\n"

// dataMount is where the data partition is mounted, below the root.
const dataMount = "var/lib/skerry"

// mountData mounts the data partition, after checking, mending or making it, and does a factory reset that was asked for. What is on it is given up only
// if it is proven that there is nothing, or that fsck has worked and cannot mend it, and never by a system on trial. Anything else is an error: a
// system that cannot read good data must not be what deletes them, and the other slot's may.
func (m *Machine) mountData(p partition, slot string) error {
	device := m.dev(p.device)
	empty, err := startsEmpty(device)
	if err != nil {
		return fmt.Errorf("read the data partition %s: %w", p.device, err)
	}
	at := filepath.Join(m.Root, dataMount)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	lost := ""
	if empty {
		m.say("first start: making the file system of the data partition")
	} else {
		said, err := m.mend(p.device)
		if err == nil {
			if err := m.mountChecked(device, at); err != nil {
				return fmt.Errorf("mount the data partition %s, which fsck finds whole: %w: it is left as it is", p.device, err)
			}
			return m.afterMount(p, at)
		}
		if !errors.Is(err, errBeyondRepair) {
			return fmt.Errorf("check the data partition %s: %w: it is left as it is\n%s", p.device, err, said)
		}
		if err := m.mayGiveUp(p, slot); err != nil {
			return fmt.Errorf("the data partition %s is beyond repair, and is left as it is: %w", p.device, err)
		}
		lost = said
	}
	if err := m.make(p.device); err != nil {
		return err
	}
	if err := m.mountChecked(device, at); err != nil {
		return fmt.Errorf("mount the data partition %s, which has just been made: %w: the disk is worn out or write-protected", p.device, err)
	}
	if lost != "" {
		m.say("THE DATA PARTITION WAS BEYOND REPAIR and has been made anew; what fsck said is in /%s/%s", dataMount, recoveryLog)
		if err := appendFile(filepath.Join(at, recoveryLog), lost); err != nil {
			m.say("%s cannot be written: %v", recoveryLog, err)
		}
	}
	return m.afterMount(p, at)
}

// startsEmpty says whether no file system has been made on a partition yet.
func startsEmpty(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, len(EmptyData))
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, err
	}
	return string(head) == EmptyData, nil
}

// noExt4 says whether all places where mke2fs puts a superblock can be read, and none has one. Where they are follows from the block size that make
// uses: the groups have 32768 blocks, and the backups are in group 1 and in those whose number is a power of 3, 5 or 7 (sparse_super).
func noExt4(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, err
	}
	defer f.Close()
	places := []int64{1024, 1 * groupSize}
	for _, base := range []int64{3, 5, 7} {
		for n := base; n < 1<<20; n *= base {
			places = append(places, n*groupSize)
		}
	}
	for _, at := range places {
		magic := make([]byte, 2)
		switch _, err := f.ReadAt(magic, at+56); { // s_magic
		case errors.Is(err, io.EOF):
			continue // the partition is smaller
		case err != nil:
			return false, err
		case binary.LittleEndian.Uint16(magic) == 0xef53:
			return false, nil
		}
	}
	return true, nil
}

const groupSize = 32768 * 4096

// mayGiveUp returns an error if the slot that boots is on trial, or may be: a system that has not been confirmed may be what is wrong.
func (m *Machine) mayGiveUp(data partition, slot string) error {
	all := m.partitions()
	var paths [2]string
	for i, name := range []string{"env-a", "env-b"} {
		p, ok := find(all, name, data.disk)
		if !ok {
			return fmt.Errorf("whether this system is on trial cannot be known: the disk has no partition %s", name)
		}
		paths[i] = m.dev(p.device)
	}
	d, err := bootenv.Open(paths)
	if err != nil {
		return fmt.Errorf("whether this system is on trial cannot be known: %w", err)
	}
	env, condition := d.Read()
	if err := d.Close(); err != nil {
		return err
	}
	switch {
	case condition.Lost():
		return fmt.Errorf("whether this system is on trial cannot be known: %w", errors.Join(condition.Problems[:]...))
	case env.Confirmed != "" && string(env.Confirmed) != slot:
		return fmt.Errorf("this system is on trial: only that of slot %s, the last one that was confirmed, may make it anew", env.Confirmed)
	}
	return nil
}

// recoveryLog is where, on the data partition, it stands why an earlier one was given up.
const recoveryLog = "system/recovery.log"

func (m *Machine) mountChecked(device, at string) error {
	return m.Kernel.Mount(device, at, "ext4", unix.MS_NOATIME, "errors=remount-ro")
}

// errBeyondRepair says that nothing can be had from the file system any more, and nothing but the file system is to blame.
var errBeyondRepair = errors.New("the file system is beyond repair")

// The bits of e2fsck's exit status, e2fsck(8). 16 and more say that it was called wrongly, interrupted, or not even loaded; a negative one stands for
// a signal, as that of a kernel without memory.
const (
	fsckMended   = 1 | 2
	fsckUnmended = 4
	fsckFailed   = 8 // it could not work: no superblock, but no memory and a disk that does not answer, too
)

// mend checks a file system, first with what fsck does by itself without loss, then with all that it can. It returns what fsck said.
func (m *Machine) mend(device string) (said string, err error) {
	status := 0
	for _, how := range []string{"-p", "-fy"} {
		var out string
		status, out, err = m.Kernel.Run("/usr/sbin/e2fsck", how, "/dev/"+device)
		if err != nil {
			return said, fmt.Errorf("run e2fsck: %w", err)
		}
		said += fmt.Sprintf("e2fsck %s /dev/%s: status %d\n%s\n", how, device, status, clip(out))
		if status&^fsckMended == 0 {
			if status != 0 {
				m.say("the data partition was mended:\n%s", clip(out))
			}
			return said, nil
		}
	}
	m.say("fsck cannot mend the data partition:\n%s", said)
	switch status &^ fsckMended {
	case fsckUnmended:
		return said, errBeyondRepair
	case fsckFailed:
		none, err := noExt4(m.dev(device))
		if err != nil {
			return said, fmt.Errorf("look for superblocks: %w", err)
		}
		if none {
			return said, fmt.Errorf("%w: there is no superblock, nor a backup of one", errBeyondRepair)
		}
	}
	return said, fmt.Errorf("e2fsck could not do its work (status %d), which need not be the file system's fault", status)
}

// clip keeps the end of what a program said: a log must not be filled by a broken disk.
func clip(s string) string {
	const most = 16 << 10
	if len(s) > most {
		s = "…" + strings.ToValidUTF8(s[len(s)-most:], "")
	}
	return s
}

// make makes an empty file system.
func (m *Machine) make(device string) error {
	status, out, err := m.Kernel.Run("/usr/sbin/mke2fs", "-F", "-q", "-t", "ext4", "-b", "4096", "-m", "1", "-L", "skerry-data", "-E", "lazy_itable_init=1", "/dev/"+device)
	if err != nil {
		return fmt.Errorf("run mke2fs: %w", err)
	}
	if status != 0 {
		return fmt.Errorf("mke2fs cannot make a file system on the data partition %s (status %d): %s", device, status, clip(out))
	}
	return nil
}

// afterMount makes the file system as large as its partition and does the factory reset that was asked for.
func (m *Machine) afterMount(p partition, at string) error {
	if sectors, err := m.Kernel.Sectors(m.dev(p.device)); err == nil {
		if err := m.Kernel.GrowFilesystem(at, sectors*512); err != nil {
			m.say("the data file system is left as large as it is: %v", err)
		}
	}
	return m.factoryReset(p, at)
}

// factoryReset does what the file ResetRequest asks for. It is repeated after a power cut, as the request goes last.
func (m *Machine) factoryReset(p partition, at string) error {
	b, err := os.ReadFile(filepath.Join(at, ResetRequest))
	if err != nil {
		return nil // none
	}
	switch what := strings.TrimSpace(string(b)); what {
	case ResetAll:
		m.say("factory reset: everything on the data partition is removed")
		if err := m.Kernel.Unmount(at); err != nil {
			return fmt.Errorf("factory reset: unmount the data partition: %w", err)
		}
		if err := m.make(p.device); err != nil {
			return fmt.Errorf("factory reset: %w", err)
		}
		return m.mountChecked(m.dev(p.device), at)
	case ResetKeepIdentity:
		m.say("factory reset: everything on the data partition but the gateway's identity is removed")
		if err := wipe(at, "", keptByReset()); err != nil {
			return fmt.Errorf("factory reset: %w", err)
		}
		syncDir(at)
		return os.Remove(filepath.Join(at, ResetRequest))
	default:
		m.say("the request for a factory reset asks for %q, which is neither %s nor %s: it is ignored", what, ResetAll, ResetKeepIdentity)
		return os.Remove(filepath.Join(at, ResetRequest))
	}
}

// A factory reset is asked for by a file on the data partition with one of these words.
const (
	ResetRequest      = "system/factory-reset"
	ResetAll          = "all"
	ResetKeepIdentity = "keep-identity"
)

// keptByReset is what makes a gateway the node that it is: skerryd.yaml with the files that it names, and the time servers, without which a gateway that
// has no clock of its own finds no certificate valid.
func keptByReset() map[string]bool {
	return map[string]bool{
		ResetRequest: true, recoveryLog: true, "identity": true,
		"system/etc/machine-id": true, "system/etc/hostname": true, "system/etc/skerry": true, "system/etc/systemd/network": true,
		"system/etc/systemd/timesyncd.conf.d": true,
	}
}

// wipe removes all below base/dir that is not kept; a folder with something that is kept stays.
func wipe(base, dir string, kept map[string]bool) error {
	list, err := os.ReadDir(filepath.Join(base, dir))
	if err != nil {
		return err
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if kept[path] {
			continue
		}
		inside := false
		for k := range kept {
			inside = inside || strings.HasPrefix(k, path+"/")
		}
		if inside && e.IsDir() {
			err = wipe(base, path, kept)
		} else {
			err = os.RemoveAll(filepath.Join(base, path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func appendFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) {
	if d, err := os.Open(path); err == nil {
		_ = d.Sync() // what is not there after a power cut is done again
		d.Close()
	}
}
