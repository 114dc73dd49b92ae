# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Calls of functions whose signature is known at run time only"
HOMEPAGE="https://sourceware.org/libffi/ https://github.com/libffi/libffi"
SRC_URI="
	https://github.com/libffi/libffi/releases/download/v${PV}/${P}.tar.gz
	mirror://debian/pool/main/libf/libffi/libffi_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="MIT"
# The sub-slot is the number in the soname.
SLOT="0/8"
KEYWORDS="amd64 arm64"
# It is DejaGnu's.
RESTRICT="test"

PATCHES=(
	"${FILESDIR}"/${P}-declare-function.patch
)

src_configure() {
	local myconf=(
		--disable-docs
		# It would ask gcc for the folder, and not take --libdir.
		--disable-multi-os-directory
		# It would add a -march of its own.
		--without-gcc-arch
	)
	econf "${myconf[@]}"
}

src_install() {
	default

	find "${ED}" -name '*.la' -delete || die
}
