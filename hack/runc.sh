#!/bin/sh
# Builds a static runc, with seccomp, from the pinned module in tools/runc.
set -eu
out=$1
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")/../tools/runc"
CGO_ENABLED=1 go build -trimpath -tags 'seccomp netgo osusergo' \
	-ldflags '-s -w -extldflags -static' -o "$out" github.com/opencontainers/runc
