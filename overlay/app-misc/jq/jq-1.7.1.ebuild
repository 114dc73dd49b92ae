# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Command-line JSON processor"
HOMEPAGE="https://jqlang.org/ https://github.com/jqlang/jq"
SRC_URI="
	https://github.com/jqlang/jq/archive/refs/tags/${P}.tar.gz -> ${P}.gh.tar.gz
	mirror://debian/pool/main/j/jq/jq_${PV}.orig.tar.gz -> ${P}.gh.tar.gz
"
S="${WORKDIR}/${PN}-${P}"

LICENSE="MIT CC-BY-3.0"
SLOT="0"
KEYWORDS="amd64 arm64"
IUSE="+oniguruma"

DEPEND="oniguruma? ( dev-libs/oniguruma:= )"
RDEPEND="${DEPEND}"
BDEPEND="
	dev-build/autoconf
	dev-build/automake
	dev-build/libtool
"

src_prepare() {
	default

	# The version comes from git, which a tarball has not.
	sed -i -e "/^m4_define(\[jq_version\]/s/m4_esyscmd.*/[${PV}])/" configure.ac || die
	grep -q "^m4_define(\[jq_version\], \[${PV}\])$" configure.ac || die "the version was not set"

	# With -static-libtool-libs, libtool records the folder of the build as a runpath.
	sed -i -e 's/^\(jq_LDFLAGS = \)-static-libtool-libs$/\1/' Makefile.am || die

	autoreconf --force --install || die
}

src_configure() {
	local myconf=(
		--disable-docs
		--disable-maintainer-mode
		--disable-valgrind
		$(use_with oniguruma)
	)
	econf "${myconf[@]}"
}

src_install() {
	default

	find "${ED}" -name '*.la' -delete || die
}
