#!/usr/bin/env bash
# Installs the Debian packages that one group of targets needs; quiet when everything is there.
# Usage: deps.sh rig|containerd2|crio|networking|modbus|mqtt|opcua|push|machine|arm|boot|image|hil|qemu
set -euo pipefail

case "${1:-}" in
rig) want="containerd runc containernetworking-plugins busybox-static iptables iproute2 python3 python3-pymodbus python3-serial gpsd gpsd-clients socat git" ;;
containerd2) want="gcc libc6-dev libseccomp-dev pkg-config" ;;
networking) want="nftables" ;;
crio) want="gcc libc6-dev libseccomp-dev pkg-config conmon runc containernetworking-plugins" ;;
modbus) want="gcc libc6-dev libmodbus-dev python3 python3-pymodbus python3-serial python3-serial-asyncio socat" ;;
mqtt) want="mosquitto-clients" ;;
opcua) want="" ;;
push) want="mosquitto mosquitto-clients redis-server" ;;
machine) want="mmdebstrap procps" ;;
arm) want="qemu-user-static" ;;
boot) want="qemu-system-arm u-boot-qemu u-boot-tools fdisk dosfstools mtools e2fsprogs rauc squashfs-tools" ;;
image) want="debian-archive-keyring dpkg kmod squashfs-tools e2fsprogs dosfstools mtools u-boot-tools cryptsetup-bin rauc openssl" ;;
qemu) want="qemu-system-arm cpio kmod socat" ;;
hil) want="qemu-system-arm u-boot-qemu mtools socat" ;;
*) echo "usage: $0 rig|containerd2|crio|networking|modbus|mqtt|opcua|push|machine|arm|boot|image|hil|qemu" >&2; exit 2 ;;
esac
# Debian's npm brings hundreds of packages, and whoever has Node.js from elsewhere must not get a second one.
if [[ "$1" = modbus || "$1" = opcua ]] && ! command -v npm >/dev/null; then want="$want nodejs npm"; fi

need_go=1.26
if ! command -v go >/dev/null; then
  echo "skerry needs Go $need_go or newer on the PATH; this machine has none" >&2
  exit 1
fi
have_go=$(go env GOVERSION | sed 's/^go//')
if [ "$(printf '%s\n%s\n' "$need_go" "$have_go" | sort -V | head -1)" != "$need_go" ]; then
  echo "skerry needs Go $need_go or newer; this machine has $have_go" >&2
  exit 1
fi

missing=""
for p in $want; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
if [ -z "$missing" ]; then exit 0; fi

sudo=""
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "these Debian packages are missing, and neither root nor sudo is here to install them:$missing" >&2
    exit 1
  fi
  sudo="sudo"
fi
command -v apt-get >/dev/null || { echo "not a Debian system: install by hand:$missing" >&2; exit 1; }

# Debian starts its own containerd service on installation; Skerry's rig runs a private one, so nothing shall start here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
  $sudo chmod +x "$policy"
  trap '$sudo rm -f "$policy"' EXIT
fi
echo "==> installing Debian packages:$missing"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Progress-Fancy=0 $missing |
  awk '/^(Unpacking|Setting up)/ {n++; if (n % 10 == 0) {printf "    %d steps: %s\n", n, $0; fflush()}}'
