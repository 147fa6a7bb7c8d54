#!/usr/bin/env bash
# Makes build/deb/skerryd_VERSION_ARCH.deb from a binary that is already built. The same binary and the same sources make the same bytes.
# Usage: build-deb.sh ARCH BINARY OUT-FOLDER     ARCH is Debian's: armhf, armel, arm64, amd64
set -euo pipefail
cd "$(dirname "$0")/.."
arch=$1 binary=$2 out=$3
case "$arch" in armhf | armel | arm64 | amd64) ;; *) echo "build-deb: no such architecture: $arch (armhf, armel, arm64, amd64)" >&2; exit 2 ;; esac
[ -x "$binary" ] || { echo "build-deb: $binary is not there; make build" >&2; exit 2; }
command -v dpkg-deb >/dev/null || { echo "build-deb: dpkg-deb is missing: this needs a Debian or Ubuntu machine" >&2; exit 2; }
# Debian wants a version that begins with a digit; commits are ordered by the time of the last one.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}
version=${DEB_VERSION:-0.1.0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)+$(git rev-parse --short=9 HEAD 2>/dev/null || echo unknown)}
[[ "$version" =~ ^[0-9][A-Za-z0-9.+~-]*$ ]] || { echo "build-deb: DEB_VERSION=$version is no version of a Debian package (it begins with a digit, then letters, digits and . + ~ -)" >&2; exit 2; }

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
from=board/packages
install -D -m 755 "$binary" "$root/usr/bin/skerryd"
ln -s skerryd "$root/usr/bin/skerryctl"
install -D -m 644 -t "$root/lib/systemd/system" "$from/systemd/skerryd.service" "$from/systemd/skerry-shutdown.service"
install -D -m 640 "$from/deb/skerryd.yaml" "$root/etc/skerry/skerryd.yaml"
install -d -m 755 "$root/etc/skerry/board.d"
doc=$root/usr/share/doc/skerryd
install -D -m 644 LICENSE "$doc/copyright"
install -D -m 644 docs/security/dependencies.md "$doc/dependencies.md"
install -D -m 644 -t "$doc/examples" "$from/systemd/devices-only.conf"
install -d "$root/DEBIAN"
install -m 755 -t "$root/DEBIAN" "$from/deb/postinst" "$from/deb/prerm" "$from/deb/postrm"
echo /etc/skerry/skerryd.yaml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: skerryd
Version: $version
Architecture: $arch
Maintainer: Skerry <skerry@example.org>
Installed-Size: $(du -k -s --apparent-size "$root/usr" "$root/lib" "$root/etc" | awk '{n += $1} END {print n}')
Section: admin
Priority: optional
Pre-Depends: init-system-helpers (>= 1.54~)
Recommends: containerd (>= 1.6) | cri-o, containernetworking-plugins, iptables
Homepage: https://github.com/skerry/skerry
Description: edge agent for Kubernetes with Modbus, OPC UA and serial built in
 Makes this machine a node of a Kubernetes cluster that it reaches through a
 relay, and goes on without either: pods and devices run from its own store.
 .
 Without a container runtime it serves devices only (pods.enabled: false).
END
(cd "$root" && find usr lib etc -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod -R u=rwX,go=rX "$root/usr" "$root/lib" "$root/DEBIAN"
chmod 755 "$root" "$root"/DEBIAN/{postinst,prerm,postrm}
mkdir -p "$out"
dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$root" "$out/skerryd_${version}_$arch.deb" >/dev/null
ls -l "$out/skerryd_${version}_$arch.deb" | awk '{printf "    %6.1f MB  %s\n", $5/1e6, $9}'
