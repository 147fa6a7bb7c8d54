#!/usr/bin/env bash
# Builds, into the folder $1, kube-proxy from the sources of the embedded control plane and CoreDNS from its module, both as their projects
# ship them, unless the binaries there were made from the same versions.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests"
mkdir -p "$out"

# build NAME MODULE PACKAGE PART-OF-BUILD-FLAGS COST
build() {
  local sum total
  sum=$( (go env GOVERSION; cat "$2/go.mod" "$2/go.sum" ../scripts/build-networking.sh) | sha256sum | cut -d' ' -f1)
  if [ -x "$out/$1" ] && [ "$(cat "$out/$1.sum" 2>/dev/null)" = "$sum" ]; then return 0; fi
  echo "==> building $1 ($5)"
  total=$(go -C "$2" list -deps "$3" 2>/dev/null | wc -l)
  (CGO_ENABLED=0 go -C "$2" build -v -trimpath -buildvcs=false -ldflags "-s -w $4" -o "$out/$1.new" "$3" 2>&1) |
    awk -v total="$total" '/^[a-z0-9.]+(\/|$)/ {n++; if (n % 100 == 0) {printf "    %d of at most %d packages compiled\n", n, total; fflush()}; next} {print}'
  mv "$out/$1.new" "$out/$1"
  echo "$sum" >"$out/$1.sum"
  ls -l "$out/$1" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
}

version=$(go -C kube list -m -f '{{.Version}}' k8s.io/kubernetes)
build kube-proxy kube k8s.io/kubernetes/cmd/kube-proxy "-X k8s.io/component-base/version.gitVersion=$version" "after the control plane: about 20 CPU seconds"
build coredns coredns github.com/coredns/coredns "" "once: about 4 CPU minutes"
