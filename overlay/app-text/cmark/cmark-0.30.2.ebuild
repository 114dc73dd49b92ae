# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-cmake

DESCRIPTION="CommonMark parsing and rendering library and program"
HOMEPAGE="https://commonmark.org/ https://github.com/commonmark/cmark"
SRC_URI="
	https://github.com/commonmark/cmark/archive/${PV}.tar.gz -> ${P}.tar.gz
	mirror://debian/pool/main/c/cmark/cmark_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="BSD-2 MIT"
# The soname carries the whole version.
SLOT="0/${PV}"
KEYWORDS="amd64 arm64"
IUSE="test"
RESTRICT="!test? ( test )"

BDEPEND+=" test? ( dev-lang/python )"

src_configure() {
	local mycmakeargs=(
		-DCMARK_SHARED=ON
		-DCMARK_STATIC=OFF
		-DCMARK_TESTS=$(usex test ON OFF)
	)
	fprefix-cmake_src_configure
}
