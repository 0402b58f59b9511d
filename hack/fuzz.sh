#!/bin/sh
# Runs each fuzz target of the project for the time given.
set -eu
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r f; do
	for t in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$f"); do
		echo "$(dirname "$f") $t" >&2
		go test -run "^$" -fuzzminimizetime 10x -fuzz "^$t\$" -fuzztime "$1" "$(dirname "$f")"
	done
done
