#!/bin/sh
# usage: hack/kernel.sh DIR
#
# Downloads the kernel package that linux-image-amd64 depends on into the folder
# DIR and prints its path. Nothing is installed. A package that is there, and has
# the digest that was written down when apt had verified it, is used as it is,
# without a look at the network: remove DIR to get a newer one.
set -eu

meta=linux-image-amd64
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
new=$dir/new

exec 9>"$dir/lock"
flock 9

# The record is a line as sha256sum writes it: the digest and the file's name.
if [ -f "$dir/sha256" ] && (cd "$dir" && sha256sum --quiet --check sha256 >/dev/null 2>&1); then
	sed "s|^[0-9a-f]*  |$dir/|" "$dir/sha256"
	exit 0
fi

resolve() {
	apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

download() {
	pkg=$(resolve)
	[ -n "$pkg" ] || return 1
	echo "downloading $pkg (about 70 MB)" >&2
	rm -rf "$new"
	mkdir "$new"
	# apt compares the file with the digest in its signed index.
	sandbox=
	[ "$(id -u)" != 0 ] || sandbox='-o APT::Sandbox::User=root'
	# shellcheck disable=SC2086 # a list of words
	(cd "$new" && apt-get $sandbox download "$pkg" >&2)
}

trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if ! download; then
	# No package lists yet, or lists so old that the file is gone.
	[ "$(id -u)" = 0 ] || { echo "$0: run apt-get update as root, then try again" >&2; exit 1; }
	apt-get -o DPkg::Lock::Timeout=900 update >&2 || { echo "$0: apt-get update failed" >&2; exit 1; }
	download || { echo "$0: apt has no kernel package that $meta depends on" >&2; exit 1; }
fi

set -- "$new"/linux-image-*.deb
[ $# = 1 ] && [ -f "$1" ] || { echo "$0: apt-get download left no package" >&2; exit 1; }
deb=${1##*/}
rm -f "$dir/sha256" "$dir"/linux-image-*.deb
mv "$1" "$dir/$deb"
(cd "$dir" && sha256sum "$deb" >sha256.new && mv sha256.new sha256)
echo "$dir/$deb"
