#!/bin/sh
# Runs every test: those that boot no VM with the race detector, those of the
# Windows half under Wine, then those that boot VMs. Prints what the test
# runner says of each package, the output of what failed, and fails on a skip
# that .ci/skips does not list.
set -u
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT INT TERM

run() {
	# The whole output goes to the log; packages and failures to the screen.
	{ "$@" 2>&1; echo "exit $?"; } | tee -a "$log" | awk -f hack/screen.awk
}

all=$(go list ./...)
vms=$(echo "$all" | grep '/byre/test' | grep -v -e /test/golden -e /test/wine)
failed=0
run go test -v -race -timeout 20m $(echo "$all" | grep -v -x -F "$vms") || failed=1
run hack/wine.sh || failed=1
run go test -v -p 1 -timeout 40m $vms || failed=1

skipped=$(sed -n 's/^ *--- SKIP: \([^ ]*\) .*/\1/p' "$log" | sort -u)
for t in $skipped; do
	if ! grep -q "^$t[[:space:]]" .ci/skips; then
		echo "FAIL: $t was skipped and .ci/skips does not say why"
		failed=1
	fi
done
echo "tests: $(grep -c '^ *--- PASS' "$log") passed, $(grep -c '^ *--- FAIL' "$log") failed, $(echo "$skipped" | grep -c .) skipped"
exit $failed
