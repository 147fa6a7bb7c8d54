package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skerry/skerry/firmware/config"
	"github.com/skerry/skerry/firmware/identity"
	"github.com/skerry/skerry/firmware/proxy"
)

// FindMedia lists the partition "provision" of the disk with the system and all USB disks. sys and dev are /sys and /dev.
func FindMedia(sys, dev string) []Medium {
	files, _ := filepath.Glob(filepath.Join(sys, "class/block/*/uevent"))
	sort.Strings(files)
	var out []Medium
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		name := filepath.Base(filepath.Dir(file))
		at, err := filepath.EvalSymlinks(filepath.Dir(file))
		if err != nil {
			continue
		}
		path := filepath.Join(dev, name)
		switch usb := strings.Contains(at, "/usb"); {
		case usb:
			out = append(out, &fat{name: "the USB stick (" + name + ")", device: path})
		case bytes.Contains(text, []byte("\nPARTNAME=provision\n")) || bytes.HasSuffix(text, []byte("\nPARTNAME=provision")):
			out = append(out, &fat{name: "the partition provision", device: path})
		}
	}
	return out
}

// fat is a FAT on a block device. It is mounted only while it is used: power may go at any moment, and sticks are pulled out.
type fat struct{ name, device string }

func (f *fat) Name() string { return f.name }

func (f *fat) Use(do func(dir string) error) error { return f.mounted(0, do) }

func (f *fat) Look(do func(dir string) error) error { return f.mounted(unix.MS_RDONLY, do) }

func (f *fat) mounted(flags uintptr, do func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("", "skerry-provision-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount(f.device, dir, "vfat", flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, "umask=077"); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEDIUM) { // no FAT, or a card reader without a card
			return fmt.Errorf("%s holds no FAT: %w", f.device, os.ErrNotExist)
		}
		return fmt.Errorf("mount %s: %w", f.device, err)
	}
	defer func() {
		if e := unix.Unmount(dir, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", f.device, e), unix.Unmount(dir, unix.MNT_DETACH))
		}
	}()
	return do(dir)
}

// Join is what Options.Enroll is in earnest.
func Join(ctx context.Context, cfg config.Config, token string) error {
	o := identity.EnrollOptions{Addresses: cfg.Relay.Addresses, Token: token, Node: cfg.Node.Name, Dir: cfg.IdentityDir}
	if cfg.Relay.Proxy != "" {
		p, err := proxy.Parse(cfg.Relay.Proxy)
		if err != nil {
			return fmt.Errorf("proxy: %w", err)
		}
		o.Dial = p.DialContext
	}
	_, err := identity.Enroll(ctx, o)
	return err
}

// Settle is what Options.Settle is on an image: systemd's network and time services take their settings over, and the agent starts.
func Settle(ctx context.Context, hostname string) error {
	err := unix.Sethostname([]byte(hostname))
	for _, args := range [][]string{
		{"networkctl", "reload"}, {"systemctl", "--no-block", "try-restart", "systemd-timesyncd.service"}, {"systemctl", "--no-block", "restart", "skerryd.service"},
		{"systemctl", "--no-block", "start", "skerry-shutdown.service"}, // it ends pods before the machine goes down, and was left out while there was no configuration
	} {
		if out, e := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), e, bytes.TrimSpace(out)))
		}
	}
	return err
}
