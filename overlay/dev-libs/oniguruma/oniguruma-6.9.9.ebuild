# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Regular expression library for many character encodings"
HOMEPAGE="https://github.com/kkos/oniguruma"
# The tree of the tag, which is what Debian ships, and not the release tarball onig-${PV}.tar.gz.
SRC_URI="
	https://github.com/kkos/oniguruma/archive/refs/tags/v${PV}.tar.gz -> ${P}.gh.tar.gz
	mirror://debian/pool/main/libo/libonig/libonig_${PV}.orig.tar.gz -> ${P}.gh.tar.gz
"

LICENSE="BSD-2"
# The sub-slot is the number in the soname.
SLOT="0/5"
KEYWORDS="amd64 arm64"

BDEPEND="
	dev-build/autoconf
	dev-build/automake
	dev-build/libtool
"

DOCS=( AUTHORS HISTORY README.md doc/{API,CALLOUTS.API,CALLOUTS.BUILTIN,FAQ,RE,SYNTAX.md,UNICODE_PROPERTIES} )

src_prepare() {
	default

	autoreconf --force --install || die
}

src_configure() {
	econf --enable-posix-api
}

src_install() {
	default

	find "${ED}" -name '*.la' -delete || die
}
