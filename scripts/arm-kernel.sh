#!/usr/bin/env bash
# Fetches Debian's ARMv7 kernel without touching this machine's own package lists, and leaves in $1:
#   vmlinuz, version, and the modules named in $2… (names without .ko) with everything they depend on, in load order, as modules/NN-name.ko
set -euo pipefail
out=$1
shift
if [ -f "$out/complete" ] && [ "$(cat "$out/complete")" = "$*" ]; then exit 0; fi
rm -rf "$out"
mkdir -p "$out"
apt=$out/apt
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$apt/etc/parts"
touch "$apt/state/status"
# The machine's own Debian source, for another architecture; only the main index, which is enough for a kernel.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null | awk -v s="$suite" '$2 == s && $3 == "main" {print $1; exit}')
[ -n "$uri" ] || { echo "this machine has no Debian source for $suite/main in its apt configuration" >&2; exit 1; }
echo "deb [arch=armhf signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$apt/etc/sources.list"
opts=(-q -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/state/status" -o "Dir::Cache=$apt/cache" -o "Dir::Etc::sourcelist=$apt/etc/sources.list"
  -o "Dir::Etc::sourceparts=$apt/etc/parts" -o APT::Architecture=armhf -o APT::Architectures=armhf -o Acquire::Languages=none
  -o APT::Sandbox::User=root)
echo "==> fetching Debian's ARMv7 kernel"
apt-get "${opts[@]}" update >"$out/apt.log" 2>&1 || { tail -5 "$out/apt.log" >&2; exit 1; }
package=$(apt-cache "${opts[@]}" depends linux-image-armmp | awk '/Depends: linux-image-/ {print $2; exit}')
[ -n "$package" ] || { echo "no linux-image-armmp in $uri" >&2; exit 1; }
(cd "$out" && apt-get "${opts[@]}" download "$package" >>apt.log 2>&1) || { tail -5 "$out/apt.log" >&2; exit 1; }
dpkg -x "$out"/linux-image-*.deb "$out/root"
version=$(basename "$out"/root/lib/modules/*)
cp "$out/root/boot/vmlinuz-$version" "$out/vmlinuz"
depmod -b "$out/root" "$version"
mkdir "$out/modules"
n=100
for m in "$@"; do
  list=$(modprobe -d "$out/root" -S "$version" --show-depends "$m" 2>/dev/null | awk '$1 == "insmod" {print $2}') || true
  for f in $list; do
    name=$(basename "$f" .ko)
    ls "$out"/modules/*-"$name".ko >/dev/null 2>&1 && continue
    cp "$f" "$out/modules/$n-$name.ko"
    n=$((n + 1))
  done
done
rm -rf "$out/root" "$out"/*.deb "$apt"
echo "$version" >"$out/version"
echo "$*" >"$out/complete"
