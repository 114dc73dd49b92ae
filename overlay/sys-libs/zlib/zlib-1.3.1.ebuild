# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

DESCRIPTION="Compression with deflate"
HOMEPAGE="https://zlib.net/ https://github.com/madler/zlib"
# Upstream's release less what Debian takes out (RFCs, other systems' build files).
# Every file in it is upstream's own.
SRC_URI="mirror://debian/pool/main/z/zlib/zlib_$(ver_cut 1-2).dfsg+really${PV}.orig.tar.gz"

LICENSE="ZLIB"
# The sub-slot is the number in the soname.
SLOT="0/1"
KEYWORDS="amd64 arm64"

src_configure() {
	fprefix-toolchain_export AR CC RANLIB

	# It is no configure script by autoconf.
	local myconf=(
		--prefix="${EPREFIX}/usr"
		--libdir="${EPREFIX}/usr/$(get_libdir)"
		--sharedlibdir="${EPREFIX}/usr/$(get_libdir)"
		--shared
	)
	./configure "${myconf[@]}" || die "configure failed"
}

src_install() {
	default

	rm "${ED}/usr/$(get_libdir)/libz.a" || die
}
