#!/bin/sh
# Runs the tests of the Windows half under Wine: cross-compiled, on the
# stand-in DLLs of test/wine/dll, once for each Windows build that there are
# recordings of. Prints as go test -v does, for hack/test.sh to count.
#
#   hack/wine.sh [pattern of tests]
#
# Of uvm, container and cmd/byre those tests are run whose outcome depends on
# the system; the others are the same code as elsewhere.
#
# The Wine prefix is made once, in the cache folder, and used by one run at a
# time. It has a wineserver of its own, which this script ends.
set -eu
cd "$(dirname "$0")/.."

cache=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/byre-build}
work=$cache/wine
version=$(dpkg-query -W -f '${Version}' wine64)
prefix=$work/prefix-$(echo "$version" | tr -c 'A-Za-z0-9.\n' '-')
pattern=${1:-}

mkdir -p "$work"
exec 9>"$work/lock"
flock 9

export PATH="/usr/lib/wine:$PATH" WINEARCH=win64 WINEDEBUG=-all
export WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe="
unset DISPLAY WAYLAND_DISPLAY || true

# A wineserver holds the output of who starts it open, and the lock.
wine() { timeout 300 wine64 "$@" </dev/null >>"$work/wine.log" 2>&1 9>&-; }

if [ ! -d "$prefix" ]; then
	echo "making a Wine prefix" >&2
	rm -rf "$work"/prefix-*
	export WINEPREFIX="$work/prefix-new"
	wine wineboot -i
	wineserver -w 9>&-
	wine winecfg -v win10
	wineserver -w 9>&-
	mv "$WINEPREFIX" "$prefix"
fi
export WINEPREFIX="$prefix"
trap 'wineserver -k 9>&- || true' EXIT
trap 'exit 1' INT TERM
: >"$work/wine.log"

# The stand-ins.
system=$prefix/drive_c/windows/system32
for dll in computecore computenetwork vmcompute bcryptprimitives; do
	if [ "$dll" = bcryptprimitives ] && [ -e "/usr/lib/$(uname -m)-linux-gnu/wine/x86_64-windows/$dll.dll" ]; then
		continue # Wine has it
	fi
	x86_64-w64-mingw32-gcc -Wall -Wextra -Werror -Wno-cast-function-type -shared -O2 -s \
		-o "$work/$dll.dll" "test/wine/dll/$dll.c" -ladvapi32 -lole32
	cmp -s "$work/$dll.dll" "$system/$dll.dll" || cp "$work/$dll.dll" "$system/$dll.dll"
done

# Wine 8 answers one call behind os.Remove with "not implemented", which Go
# takes for a failure: the copy of that file tries the older call then, too.
at=$(go env GOROOT)/src/internal/syscall/windows/at_windows.go
mark='STATUS_INVALID_PARAMETER, // the operating system'
grep -q "$mark" "$at" || { echo "wine.sh: $at is not what it was, look at its fall-back" >&2; exit 1; }
sed "s|$mark|NTStatus(0xC0000002), $mark|" "$at" >"$work/at_windows.go"
printf '{"Replace": {"%s": "%s"}}\n' "$at" "$work/at_windows.go" >"$work/overlay.json"

packages="./internal/engine/computecore ./internal/engine ./hns ./uvm ./container ./cmd/byre ./test/wine"
for p in $packages; do
	name=$(echo "$p" | tr -d . | tr / -)
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go test -c -overlay "$work/overlay.json" -o "$work/test$name.exe" "$p"
done

wineserver -p 9>&- # keeps it until -k
version='HKLM\Software\Microsoft\Windows NT\CurrentVersion'
setbuild() {
	wine reg delete 'HKCU\Software\Wine' /v Version /f || true
	wine reg add "$version" /v CurrentBuildNumber /d "$1" /f
	wine reg add "$version" /v CurrentBuild /d "$1" /f
}

failed=0
test() { # package, build, pattern of tests unless one was asked for
	name=$(echo "$1" | tr -d . | tr / -)
	begun=$(date +%s)
	log=$work/test.log
	code=0
	(cd "$1" && BYRE_WINE_BUILD="$2" timeout 900 wine64 "$work/test$name.exe" -test.v -test.timeout 15m -test.run "${pattern:-${3:-.}}") \
		</dev/null >"$log" 2>&1 9>&- || code=$?
	tr -d '\r' <"$log" | grep -v -x PASS || true
	line="github.com/byrevm/byre/${1#./} (wine, build $2)	$(($(date +%s) - begun))s"
	if [ "$code" = 0 ] && { grep -q '^--- PASS' "$log" || [ -n "$pattern" ]; }; then
		echo "ok  	$line"
	else
		echo "FAIL	$line: exit code $code"
		failed=1
	fi
}

last=
for build in $(ls uvm/testdata/golden | sed -n 's/^[a-z]*-\([0-9]*\)-.*/\1/p' | sort -nu); do
	setbuild "$build"
	test ./test/wine "$build" 'Golden|Host'
	last=$build
done
test ./internal/engine/computecore "$last"
test ./internal/engine "$last"
test ./hns "$last"
test ./uvm "$last" 'MemoryProcess|RunsAs|Windows|VSMB|Create|Default|Life|Case11|Case59|Case83|VPMEMShares|VPMEMFails|Pipe|NetNS|Stats|CombineLayers'
test ./container "$last" 'Folder|Managed|Layer|Scratch|Connect'
test ./cmd/byre "$last" 'OnStandin|Console'
test ./test/wine "$last" Failures
exit $failed
