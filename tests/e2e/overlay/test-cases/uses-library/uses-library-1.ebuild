# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="A program in C that needs a library"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

RDEPEND="test-cases/library"
DEPEND="${RDEPEND}"

src_compile() {
	echo 'int seven(void); int main(void) { return seven(); }' > uses.c || die
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} uses.c -ltest-cases -o uses-library || die
}

src_install() {
	dobin uses-library
}
