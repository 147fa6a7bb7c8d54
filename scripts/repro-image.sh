#!/usr/bin/env bash
# Builds an image once more, in another folder, time zone and umask, from the packages in its lock file, and compares all files with those in build/images.
# Usage: repro-image.sh BOARD ARCH VERSION, after `make image BOARD=BOARD`
set -euo pipefail
cd "$(dirname "$0")/.."
first=build/images/$1
second=$(mktemp -d)
trap 'rm -rf "$second"' EXIT
umask 077
echo "==> the image of $1 again"
TZ=Asia/Tokyo SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} build/bin/skerry-image -board "$1" -agent "build/linux-$2/skerryd" -initrd "build/linux-$2/skerry-initrd" \
  -version "$3" -out "$second" -cache build/images/cache -lock "$first/packages.lock" >"$second/log" || { cat "$second/log"; exit 1; }
status=0
for f in "$first"/*; do
  name=$(basename "$f")
  [ -f "$second/$1/$name" ] || continue # bundles are made of an image, not with it
  if cmp -s "$f" "$second/$1/$name"; then echo "same      $name $(sha256sum <"$f" | cut -c1-16)"; else echo "DIFFERENT $name"; status=1; fi
done
exit $status
