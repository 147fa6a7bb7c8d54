#!/usr/bin/env bash
# Builds containerd 2 and its shim for runc into the folder $1, unless they were made there from the same sources.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests/containerd2"
mkdir -p "$out"
sum=$( (go env GOVERSION; cat go.mod go.sum ../../scripts/build-containerd2.sh) | sha256sum | cut -d' ' -f1)
if [ -x "$out/containerd" ] && [ "$(cat "$out/sum" 2>/dev/null)" = "$sum" ]; then exit 0; fi
version=$(go list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
echo "==> building containerd $version (cold: about 3 CPU minutes)"
CGO_ENABLED=0 go build -tags "no_btrfs no_devmapper no_zfs" -trimpath -buildvcs=false -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$version" -o "$out/" \
  github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
echo "$sum" >"$out/sum"
ls -l "$out/containerd" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
