#!/usr/bin/env bash
# Fetches node-opcua, the OPC UA server of the interoperability tests, in the versions of hil-tests/rig/opcuapeer/package-lock.json.
# Usage: build-opcua-peers.sh FOLDER
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)/hil-tests/rig/opcuapeer
out=$(mkdir -p "$1" && cd "$1" && pwd)

if cmp -s "$here/package-lock.json" "$out/package-lock.json" && [ -e "$out/node_modules/node-opcua/package.json" ]; then
  exit 0
fi
echo "==> node-opcua: $(grep -c '"integrity"' "$here/package-lock.json") packages, about 70 MB unpacked, half a minute"
cp "$here/package.json" "$out/"
rm -f "$out/package-lock.json"
cp "$here/package-lock.json" "$out/lock.tmp"
cd "$out"
mv lock.tmp package-lock.json
# Scripts of packages do not run: the server is plain JavaScript.
if ! npm ci --silent --no-audit --no-fund --ignore-scripts; then
  rm -f package-lock.json # so that the next run tries again
  exit 1
fi
echo "==> node-opcua $(node -p "require('./node_modules/node-opcua/package.json').version") is in $out"
