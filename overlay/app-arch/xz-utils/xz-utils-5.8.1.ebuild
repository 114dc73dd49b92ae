# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

MY_P="${PN/-utils}-${PV}"
DESCRIPTION="Compression with LZMA: the library, and the programs for .xz and .lzma files"
HOMEPAGE="https://tukaani.org/xz/ https://github.com/tukaani-project/xz"
SRC_URI="
	https://github.com/tukaani-project/xz/releases/download/v${PV}/${MY_P}.tar.xz
	mirror://debian/pool/main/x/xz-utils/xz-utils_${PV}.orig.tar.xz -> ${MY_P}.tar.xz
"
S="${WORKDIR}/${MY_P}"

LICENSE="0BSD LGPL-2.1+ GPL-2+"
SLOT="0"
KEYWORDS="amd64 arm64"

src_configure() {
	local myconf=(
		--disable-doc
		--disable-nls
		--disable-rpath
		# Shell scripts around programs that a prefix need not have.
		--disable-scripts
		--enable-threads
	)
	econf "${myconf[@]}"
}

src_install() {
	default

	find "${ED}" -name '*.la' -delete || die
}
