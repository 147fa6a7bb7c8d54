#!/usr/bin/env bash
# Runs a command and fails if it changed, added or removed a file that is not git-ignored.
set -euo pipefail
list() { git ls-files -co --exclude-standard -z | sort -z | while IFS= read -r -d '' f; do [ -f "$f" ] && sha256sum "$f"; done; }
before=$(list)
"$@"
after=$(list)
if [ "$before" != "$after" ]; then
  echo "these files are not what '$*' makes of them (run it and commit the result):" >&2
  diff <(echo "$before") <(echo "$after") | awk '/^[<>]/ {print "    " $3}' | sort -u >&2
  exit 1
fi
