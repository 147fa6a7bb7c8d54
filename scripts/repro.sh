#!/usr/bin/env bash
# Builds skerryd for each architecture twice, from two folders and with an empty build cache for our own packages, and compares.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git ls-files -co --exclude-standard -z | tar --null -T - -cf - >"$work/src.tar"
mkdir -p "$work/a" "$work/other/b"
tar -xf "$work/src.tar" -C "$work/a"
tar -xf "$work/src.tar" -C "$work/other/b"
build() { # folder goarch goarm
  (cd "$1" && CGO_ENABLED=0 GOOS=linux GOARCH=$2 GOARM=$3 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X github.com/skerry/skerry.Version=repro" -o "$work/out-$2-$(basename "$1")" ./firmware/cmd/skerryd)
}
status=0
for target in "arm 7" "arm64 " "amd64 "; do
  set -- $target
  build "$work/a" "$1" "${2:-}"
  GOCACHE="$work/cache" build "$work/other/b" "$1" "${2:-}"
  a=$(sha256sum <"$work/out-$1-a" | cut -c1-16) b=$(sha256sum <"$work/out-$1-b" | cut -c1-16)
  if [ "$a" = "$b" ]; then echo "same      skerryd linux/$1 $a"; else echo "DIFFERENT skerryd linux/$1 $a $b"; status=1; fi
done
exit $status
