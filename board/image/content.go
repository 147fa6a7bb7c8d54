package image

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed all:files
var files embed.FS

// packages that every image has, with what they depend on.
func packages() []string {
	return []string{
		"base-files", "base-passwd", "ca-certificates", "containerd", "containernetworking-plugins", "coreutils", "dash", "dbus", "dosfstools", "e2fsprogs",
		"grep", "iproute2", "iptables", "kmod", "mount", "netbase", "nftables", "procps", "rauc", "rauc-service", "runc", "sed", "systemd", "systemd-resolved", "systemd-sysv",
		"systemd-timesyncd", "udev", "util-linux",
	}
}

// unwanted are packages that others depend on only for their maintainer scripts, which do not run. That no library goes with them is
// checked: every program's libraries have to be in the root.
func unwanted(name string) bool {
	switch name {
	case "adduser", "cpio", "debconf", "debianutils", "dpkg", "gcc-12-base", "init-system-helpers", "initramfs-tools", "initramfs-tools-core", "install-info", "libdb5.3",
		"libdebconfclient0", "libfile-find-rule-perl", "libgdbm-compat4", "libgdbm6", "libklibc", "klibc-utils", "libnumber-compare-perl", "libperl5.36", "libsemanage-common",
		"libsemanage2", "libsepol2", "libtext-glob-perl", "linux-base", "mawk", "passwd", "tar", "usrmerge", "openssl":
		return true
	}
	return strings.HasPrefix(name, "perl") || strings.HasPrefix(name, "linux-image-")
}

// keep says whether a file of a package belongs on a gateway.
func keep(p string) bool {
	for _, dir := range []string{
		"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/bash-completion", "usr/share/zsh",
		"usr/share/fish", "usr/share/initramfs-tools", "usr/share/polkit-1", "usr/share/perl5", "usr/share/debconf", "usr/share/gdb", "usr/share/menu", "usr/share/pixmaps",
		"usr/share/applications", "usr/share/icons", "usr/share/apport", "usr/share/gcc", "usr/share/util-linux", "usr/share/systemd", "usr/share/pam-configs", "usr/share/glib-2.0",
		"usr/lib/udev/hwdb.d", "usr/lib/systemd/catalog", "usr/lib/systemd/system-generators/systemd-getty-generator", "usr/lib/systemd/user", "usr/lib/systemd/user-generators",
		"usr/lib/systemd/user-environment-generators", "usr/lib/systemd/user-preset", "etc/init.d", "etc/default", "etc/cron.daily", "etc/cron.d", "etc/logrotate.d", "etc/apparmor.d",
		"etc/kernel", "etc/initramfs-tools", "etc/systemd/system", "etc/X11", "etc/xdg", "etc/sysctl.conf", "etc/modprobe.d/.keep", "var", "boot", "tmp", "run", "usr/games", "usr/local",
		"usr/bin/containerd-stress", "usr/sbin/arpd", "usr/sbin/update-passwd", "usr/bin/ctr", "usr/bin/containerd-shim", "usr/bin/containerd-shim-runc-v1", "usr/include", "usr/src", "lib64",
	} {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return false
		}
	}
	for _, part := range []string{"/gconv/", "/sasl2/", "/tc/", "/pam_userdb.so"} { // the last three: their libraries are left out
		if strings.Contains(p, part) {
			return false
		}
	}
	return !strings.HasSuffix(p, ".a")
}

// rootModules are the kernel modules that every image has beside those of its initrd: networks of pods, file systems, USB serial ports and sticks, CAN, watchdogs.
func rootModules() []string {
	return []string{
		"net/netfilter/", "net/ipv4/netfilter/", "net/ipv6/netfilter/", "net/bridge/", "veth", "dummy", "macvlan", "ipvlan", "vxlan", "tun", "wireguard", "8021q",
		"autofs4?", "overlay", "ext4", "squashfs", "vfat", "nls_ascii", "nls_cp437", "nls_utf8", "nls_iso8859_1", "fuse", "loop",
		"drivers/usb/serial/", "cdc_acm", "usb_storage", "uas", "sd_mod", "drivers/net/usb/", "drivers/net/can/usb/", "net/can/", "vcan?", "slcan?",
		"drivers/watchdog/", "drivers/rtc/?", "drivers/leds/?", "gpio_pl061?", "tpm_tis?", "tpm_tis_core?", "virtio_rng?",
	}
}

// enabled are the units that start, by the unit that wants them. Debian enables units in maintainer scripts, and systemd by presets at
// the first start; here it is this list and nothing else.
func enabled() map[string]string {
	return map[string]string{
		"systemd-networkd.service": "multi-user.target", "systemd-resolved.service": "multi-user.target", "systemd-timesyncd.service": "sysinit.target",
		"containerd.service": "multi-user.target", "skerryd.service": "multi-user.target", "skerry-shutdown.service": "multi-user.target",
		"skerry-provision.service": "multi-user.target", "skerry-trial.service": "multi-user.target",
	}
}

// AgentUnits are the units that images have in common with packages (board/packages/systemd).
func AgentUnits() []string { return []string{"skerryd.service", "skerry-shutdown.service"} }

// addFiles puts the files of this package into a root.
func addFiles(t *Tree, debug bool) error {
	return fs.WalkDir(files, "files", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(p, "files/")
		if !debug && strings.Contains(rel, "skerry-debug") {
			return nil
		}
		b, err := files.ReadFile(p)
		if err != nil {
			return err
		}
		t.File(rel, 0o644, b)
		return nil
	})
}
