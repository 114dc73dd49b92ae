#!/bin/sh
# Builds two extensions and puts them into the root directory of an OS image: ./build.sh DIR
set -eu
rootfs=$(realpath "${1:?name the root directory of the image}")
cd "$(dirname "$0")"

fprefix build
# Each extension holds what no earlier one has; the first has the C library that both use.
fprefix -P tools image build --rootfs "$rootfs" --output out/image \
	--sysexts 'bzip2|app-arch/bzip2,lz4|app-arch/lz4'
