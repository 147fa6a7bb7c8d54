#!/usr/bin/env bash
# Builds containerd 2, its shim and a runc that knows idmapped mounts into the folder $1, unless they were made there from the same sources.
# runc needs cgo and libseccomp: scripts/deps.sh containerd2 installs what is missing.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests"
mkdir -p "$out"
sum=$( (go env GOVERSION; cat containerd2/go.mod containerd2/go.sum runc/go.mod runc/go.sum ../scripts/build-containerd2.sh) | sha256sum | cut -d' ' -f1)
if [ -x "$out/containerd" ] && [ -x "$out/runc" ] && [ "$(cat "$out/sum" 2>/dev/null)" = "$sum" ]; then exit 0; fi
version=$(go -C containerd2 list -m -f '{{.Version}}' github.com/containerd/containerd/v2)
echo "==> building containerd $version (cold: about 3 CPU minutes)"
CGO_ENABLED=0 go -C containerd2 build -tags "no_btrfs no_devmapper no_zfs" -trimpath -buildvcs=false -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$version" -o "$out/" \
  github.com/containerd/containerd/v2/cmd/containerd github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
echo "==> building runc $(go -C runc list -m -f '{{.Version}}' github.com/opencontainers/runc) (cold: about half a CPU minute)"
CGO_ENABLED=1 go -C runc build -tags "seccomp urfave_cli_no_docs" -trimpath -buildvcs=false -ldflags "-s -w" -o "$out/runc" github.com/opencontainers/runc
echo "$sum" >"$out/sum"
ls -l "$out/containerd" "$out/runc" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
