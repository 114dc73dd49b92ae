# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-cmake

MY_PV="R_${PV//./_}"
DESCRIPTION="XML parser that works on a stream"
HOMEPAGE="https://libexpat.github.io/ https://github.com/libexpat/libexpat"
# The tree of the tag, which is what Debian ships, and not the release tarball ${P}.tar.xz.
SRC_URI="
	https://github.com/libexpat/libexpat/archive/refs/tags/${MY_PV}.tar.gz -> ${P}.gh.tar.gz
	mirror://debian/pool/main/e/expat/expat_${PV}.orig.tar.gz -> ${P}.gh.tar.gz
"
S="${WORKDIR}/libexpat-${MY_PV}/expat"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"
IUSE="test"
RESTRICT="!test? ( test )"

DOCS=( AUTHORS Changes README.md )

src_configure() {
	local mycmakeargs=(
		-DEXPAT_BUILD_DOCS=OFF
		-DEXPAT_BUILD_EXAMPLES=OFF
		-DEXPAT_BUILD_FUZZERS=OFF
		-DEXPAT_BUILD_TESTS=$(usex test ON OFF)
		-DEXPAT_BUILD_TOOLS=ON
	)
	fprefix-cmake_src_configure
}
