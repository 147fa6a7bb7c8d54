#!/usr/bin/env bash
# Integration tests: test-integration.sh BIN. Two packages at a time, because each mostly waits, for grace periods, probes and back-offs, and takes a
# quarter to one half of a processor; what is sensitive to who else uses the processor runs alone afterwards. Packages without integration tests are
# left to the unit tests.
# PARALLEL=1 runs them one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1
# Serial lines and their timing, and rows that watch states which pass quickly.
alone=' ./hil-tests/conformance ./hil-tests/modbus ./hil-tests/opcua ./hil-tests/serial '
# Those that take longest go first.
together=(./hil-tests/e2e ./hil-tests/chaos ./hil-tests/metrics) quiet=()
for package in $(grep -rlE --include='*_test.go' '^//go:build .*\bintegration\b' hil-tests | xargs -n1 dirname | sort -u); do
  case $package in
    hil-tests/contract/* | hil-tests/history | hil-tests/kube) continue ;; # modules of their own
    hil-tests/e2e | hil-tests/chaos | hil-tests/metrics) continue ;;
  esac
  case $alone in
    *" ./$package "*) quiet+=("./$package") ;;
    *) together+=("./$package") ;;
  esac
done
export SKERRY_BIN=$bin
# -vet=off: make check vets these files, with this tag.
log=$bin/../integration.log failed=0
go test -tags integration -vet=off -p "${PARALLEL:-2}" -count=1 -timeout 30m "${together[@]}" 2>&1 | tee "$log" || failed=1
go test -tags integration -vet=off -p 1 -count=1 -timeout 30m "${quiet[@]}" 2>&1 | tee -a "$log" || failed=1
if [ $failed = 1 ]; then # once more without the logs of the programs, which are long
  echo "==> what failed (all of it: $log)"
  grep -E '^ *--- FAIL|^(FAIL|panic:)|^ *[a-z0-9_]+_test\.go:[0-9]+: ' "$log" | cut -c1-1000 | tail -n 60
fi
exit $failed
