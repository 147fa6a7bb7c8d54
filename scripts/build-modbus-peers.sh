#!/usr/bin/env bash
# Fetches and builds the Modbus peers of the interoperability tests that Debian and npm do not ship ready to run:
# libmodbus's own adversarial unit-test-server (Debian's source package) and jsmodbus.
# Usage: build-modbus-peers.sh FOLDER
set -euo pipefail

out=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
jsmodbus=5.0.0

if ! grep -q "\"version\": \"$jsmodbus\"" "$out/node_modules/jsmodbus/package.json" 2>/dev/null; then
  echo "==> jsmodbus $jsmodbus"
  (cd "$out" && npm install --silent --no-audit --no-fund --ignore-scripts --no-save "jsmodbus@$jsmodbus")
fi

if [ ! -x "$out/unit-test-server" ]; then
  echo "==> libmodbus's unit-test-server"
  # Source packages through an apt root of our own: the machine's lists stay as they are.
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/parts"
  for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if [ -e "$f" ]; then
      sed -e 's/^Types: deb$/Types: deb-src/' -e 's/^deb /deb-src /' "$f" >"$work/parts/src.${f##*.}"
      break
    fi
  done
  apt_opts=(-qq -o "Dir::State::lists=$work/lists" -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
  (cd "$work" && apt-get "${apt_opts[@]}" update && apt-get "${apt_opts[@]}" source --download-only libmodbus >/dev/null && tar xzf libmodbus_*.orig.tar.gz)
  tests=$(dirname "$(find "$work" -name unit-test-server.c)")
  # Its port and device are fixed; the tests need free ones.
  sed -e 's/@HAVE_[A-Z]*_H@/1/' "$tests/unit-test.h.in" >"$tests/unit-test.h"
  sed -i -e 's/modbus_new_tcp("127.0.0.1", 1502)/modbus_new_tcp("127.0.0.1", atoi(getenv("PEER_PORT")))/' \
    -e 's/modbus_new_rtu("\/dev\/ttyUSB0"/modbus_new_rtu(getenv("PEER_DEVICE")/' "$tests/unit-test-server.c"
  # The package keeps the library's own headers in /usr/include/modbus.
  gcc -O1 -w -I/usr/include/modbus -o "$out/unit-test-server" "$tests/unit-test-server.c" -lmodbus
fi
