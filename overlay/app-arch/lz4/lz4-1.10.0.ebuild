# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-meson

DESCRIPTION="Very fast compression"
HOMEPAGE="https://lz4.org/ https://github.com/lz4/lz4"
SRC_URI="
	https://github.com/lz4/lz4/releases/download/v${PV}/${P}.tar.gz
	mirror://debian/pool/main/l/lz4/lz4_${PV}.orig.tar.gz -> ${P}.tar.gz
"

# The library, and the programs.
LICENSE="BSD-2 GPL-2+"
# The sub-slot that Gentoo gives it.
SLOT="0/${PV}-meson"
KEYWORDS="amd64 arm64"
IUSE="test"
RESTRICT="!test? ( test )"

EMESON_SOURCE="${S}/build/meson"

src_prepare() {
	default

	# It starts without a C library, on a stack that is not aligned for what gcc -O2 makes of it.
	sed -i -e "/^  'freestanding': {$/,/^  },$/d" build/meson/meson/tests/meson.build || die
}

src_configure() {
	local emesonargs=(
		-Dprograms=true
		-Dossfuzz=false
		$(usex test -Dtests=true -Dtests=false)
	)
	fprefix-meson_src_configure
}
