#!/usr/bin/env bash
# Unit tests of everything that runs on a gateway, under user-mode emulation. Emulation says whether the code is right on
# a 32-bit machine; it says nothing about speed or memory.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=$(go list ./firmware/... ./mappers/... ./board/...)
echo "==> linux/arm GOARM=7 under qemu-arm-static"
CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 go test -vet=off -exec qemu-arm-static $packages
echo "==> linux/arm64 under qemu-aarch64-static"
CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go test -vet=off -exec qemu-aarch64-static $packages
