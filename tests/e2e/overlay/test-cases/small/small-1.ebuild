# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="A program in C, a script and a link"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_compile() {
	printf 'int main(void) { return 42; }\n' > small.c || die
	# One after the other: who compiles need not be who links.
	emake CFLAGS="${CFLAGS}" LDFLAGS="${LDFLAGS}" CC="${CHOST}-gcc" small.o
	emake CFLAGS="${CFLAGS}" LDFLAGS="${LDFLAGS}" CC="${CHOST}-gcc" small
}

src_install() {
	dobin small
	newbin - small-script <<-END
		#!${EPREFIX}/usr/bin/small
	END
	dosym small /usr/bin/small-link
}
