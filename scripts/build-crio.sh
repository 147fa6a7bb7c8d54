#!/usr/bin/env bash
# Builds CRI-O and its pinns into the folder $1, unless they were made there from the same sources. It needs a C compiler and libseccomp:
# scripts/deps.sh crio installs what is missing, and conmon. AppArmor is left out.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests/crio"
mkdir -p "$out"
sum=$( (go env GOVERSION; cat go.mod go.sum ../../scripts/build-crio.sh) | sha256sum | cut -d' ' -f1)
if [ -x "$out/crio" ] && [ "$(cat "$out/sum" 2>/dev/null)" = "$sum" ]; then exit 0; fi
version=$(go list -m -f '{{.Version}}' github.com/cri-o/cri-o)
echo "==> building CRI-O $version (cold: about 8 CPU minutes)"
CGO_ENABLED=1 go build -tags "containers_image_openpgp exclude_graphdriver_btrfs seccomp" -trimpath -buildvcs=false -ldflags "-s -w" -o "$out/" github.com/cri-o/cri-o/cmd/crio
sources=$(go list -m -f '{{.Dir}}' github.com/cri-o/cri-o)/pinns/src
gcc -std=c99 -Os -Wall -o "$out/pinns" "$sources"/*.c
echo "$sum" >"$out/sum"
ls -l "$out/crio" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
