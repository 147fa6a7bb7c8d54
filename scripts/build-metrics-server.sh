#!/usr/bin/env bash
# Puts metrics-server, unmodified, and the manifests that its project deploys it with into the folder $1, unless they were made there from the same sources.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")/../hil-tests/metricsserver"
mkdir -p "$out"
sum=$( (go env GOVERSION; cat go.mod go.sum ../../scripts/build-metrics-server.sh) | sha256sum | cut -d' ' -f1)
if [ -x "$out/metrics-server" ] && [ "$(cat "$out/sum" 2>/dev/null)" = "$sum" ]; then exit 0; fi
version=$(go list -m -f '{{.Version}}' sigs.k8s.io/metrics-server)
echo "==> building metrics-server $version (cold: about 3 CPU minutes)"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$out/" sigs.k8s.io/metrics-server/cmd/metrics-server
sources=$(go list -m -f '{{.Dir}}' sigs.k8s.io/metrics-server)
install -m 644 "$sources"/manifests/base/*.yaml "$out/"
echo "$sum" >"$out/sum"
ls -l "$out/metrics-server" | awk '{printf "    %.0f MB %s\n", $5/1e6, $9}'
