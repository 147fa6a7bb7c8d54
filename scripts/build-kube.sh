#!/usr/bin/env bash
# Builds the embedded control plane unless the binary at $1 was made from the same sources.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests/kube"
mkdir -p "$(dirname "$out")"
sum=$( (go env GOVERSION; cat go.mod go.sum $(ls *.go | sort); find . -mindepth 2 -name '*.go' | sort | xargs -r cat; cat ../../scripts/build-kube.sh) | sha256sum | cut -d' ' -f1)
if [ -x "$out" ] && [ "$(cat "$out.sum" 2>/dev/null)" = "$sum" ]; then exit 0; fi
echo "==> building the embedded Kubernetes control plane (cold: about 10 CPU minutes)"
total=$(go list -deps . 2>/dev/null | wc -l)
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
ld="-s -w -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=$(echo "$version" | cut -d. -f1 | tr -d v) -X k8s.io/component-base/version.gitMinor=$(echo "$version" | cut -d. -f2)"
(CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -ldflags "$ld" -o "$out.new" . 2>&1) |
  awk -v total="$total" '/^[a-z0-9.]+(\/|$)/ {n++; if (n % 100 == 0) {printf "    %d of at most %d packages compiled\n", n, total; fflush()}; next} {print}'
mv "$out.new" "$out"
echo "$sum" >"$out.sum"
ls -l "$out" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
