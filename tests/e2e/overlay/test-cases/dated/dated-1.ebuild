# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Says when it was built"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_compile() {
	printf '%s\n' '#include <stdio.h>' 'int main(void) { puts(__DATE__ " " __TIME__); }' > dated.c || die
	emake CFLAGS="${CFLAGS}" LDFLAGS="${LDFLAGS}" CC="${CHOST}-gcc" dated
}

src_install() {
	dobin dated
}
