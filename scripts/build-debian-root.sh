#!/usr/bin/env bash
# Leaves a small Debian with systemd in $1, for the tests that boot one (hil-tests/rig/machine). Once: about 20 CPU seconds.
set -euo pipefail
root=$1
suite=bookworm
packages=systemd,systemd-sysv,init-system-helpers,procps
if [ -f "$root.complete" ] && [ "$(cat "$root.complete")" = "$suite $packages" ]; then exit 0; fi
echo "==> building a small Debian with systemd in $root"
# The machine's own Debian source; apt knows it in whichever form it is written.
uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | awk -v s="$suite" '$2 == s && $3 == "main" {print $1; exit}')
[ -n "$uri" ] || { echo "this machine has no Debian source for $suite/main in its apt configuration" >&2; exit 1; }
rm -rf "$root" "$root.complete"
mkdir -p "$(dirname "$root")"
mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Acquire::Languages "none"' "$suite" "$root" \
  "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
echo "$suite $packages" >"$root.complete"
