# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

DESCRIPTION="Compression by sorting blocks"
HOMEPAGE="https://sourceware.org/bzip2/"
SRC_URI="
	https://sourceware.org/pub/bzip2/${P}.tar.gz
	mirror://debian/pool/main/b/bzip2/bzip2_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="BZIP2"
# The sub-slot is the number in the soname.
SLOT="0/1"
KEYWORDS="amd64 arm64"

DOCS=( CHANGES README )

src_prepare() {
	default

	# The soname that all but a few systems settled on.
	sed -i -e 's/-Wl,-soname -Wl,libbz2\.so\.1\.0 /-Wl,-soname -Wl,libbz2.so.1 /' Makefile-libbz2_so || die
	grep -q 'libbz2\.so\.1 ' Makefile-libbz2_so || die "the soname was not changed"
}

src_compile() {
	fprefix-toolchain_export CC

	# The makefile for the shared library knows no LDFLAGS.
	emake -f Makefile-libbz2_so \
		CC="${CC} ${LDFLAGS}" \
		CFLAGS="${CPPFLAGS} ${CFLAGS} -fPIC -D_FILE_OFFSET_BITS=64"
	emake bzip2recover CC="${CC}" CFLAGS="${CPPFLAGS} ${CFLAGS} -D_FILE_OFFSET_BITS=64" LDFLAGS="${LDFLAGS}"
}

src_test() {
	ln -s libbz2.so.${PV} libbz2.so.1 || die

	local -x LD_LIBRARY_PATH=${S}
	local number
	for number in 1 2 3; do
		./bzip2-shared -${number} < sample${number}.ref | cmp - sample${number}.bz2 || die
		./bzip2-shared -d $([[ ${number} == 3 ]] && echo -s) < sample${number}.bz2 | cmp - sample${number}.ref || die
	done
}

src_install() {
	dolib.so libbz2.so.${PV}
	dosym libbz2.so.${PV} /usr/$(get_libdir)/libbz2.so.1
	dosym libbz2.so.${PV} /usr/$(get_libdir)/libbz2.so
	doheader bzlib.h

	# Without bzdiff, bzgrep and bzmore: they are shell scripts around
	# programs that a prefix need not have.
	newbin bzip2-shared bzip2
	dobin bzip2recover
	dosym bzip2 /usr/bin/bunzip2
	dosym bzip2 /usr/bin/bzcat
	doman bzip2.1

	einstalldocs
}
