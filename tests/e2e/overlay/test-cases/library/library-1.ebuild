# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="A library in C"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_compile() {
	echo 'int seven(void) { return 7; }' > library.c || die
	"${CHOST}-gcc" ${CFLAGS} ${LDFLAGS} -shared -fPIC -Wl,-soname,libtest-cases.so.1 \
		library.c -o libtest-cases.so.1 || die
}

src_install() {
	dolib.so libtest-cases.so.1
	dosym libtest-cases.so.1 "/usr/$(get_libdir)/libtest-cases.so"
}
