#!/bin/sh
# Installs the Debian packages that building and testing byre need and that
# are missing. Prints what it does to stderr; does nothing when all are there.
set -eu

packages="qemu-system-x86 qemu-utils gcc libc6-dev libseccomp-dev pkg-config busybox-static e2fsprogs erofs-utils ovmf kmod ca-certificates containernetworking-plugins wine64 gcc-mingw-w64-x86-64"

missing=
for p in $packages; do
	case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true) in
	installed) ;;
	*) missing="$missing $p" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages:$missing" >&2
	echo "run as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
echo "installing Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
lock="-o DPkg::Lock::Timeout=900"
# shellcheck disable=SC2086 # lists of words
apt-get $lock install -y --no-install-recommends $missing >&2 ||
	{ apt-get $lock update >&2 && apt-get $lock install -y --no-install-recommends $missing >&2; }
