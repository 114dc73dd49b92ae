# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

DESCRIPTION="TLS and cryptography"
HOMEPAGE="https://www.openssl.org/ https://github.com/openssl/openssl"
SRC_URI="
	https://github.com/openssl/openssl/releases/download/${P}/${P}.tar.gz
	mirror://debian/pool/main/o/openssl/openssl_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="Apache-2.0"
# The sub-slot is the number in the soname.
SLOT="0/3"
KEYWORDS="amd64 arm64"
IUSE="+asm test"
RESTRICT="!test? ( test )"

BDEPEND=">=dev-lang/perl-5.10"

PATCHES=(
	"${FILESDIR}"/${PN}-3.5-certificates-of-the-system.patch
)

DOCS=( AUTHORS.md CHANGES.md NEWS.md README.md )

src_configure() {
	fprefix-toolchain_export AR CC CXX RANLIB
	# Configure would put it in front of the names above.
	unset CROSS_COMPILE

	local target
	case ${CHOST} in
		x86_64-*) target=linux-x86_64 ;;
		aarch64-*) target=linux-aarch64 ;;
		*) die "which of Configure's targets is ${CHOST}?" ;;
	esac

	local myconf=(
		${target}
		--prefix="${EPREFIX}/usr"
		--libdir="$(get_libdir)"
		--openssldir="${EPREFIX}/etc/ssl"
		shared
		threads
		no-docs
		# An engine for another system.
		no-capieng
		$(usev !asm no-asm)
		$(usev !test no-tests)
	)

	# The sources do not keep to the rules of strict aliasing.
	CFLAGS="${CFLAGS} -fno-strict-aliasing" CXXFLAGS="${CXXFLAGS} -fno-strict-aliasing" \
		perl ./Configure "${myconf[@]}" || die "Configure failed"
}

src_compile() {
	emake build_sw
}

src_test() {
	emake HARNESS_JOBS="$(nproc)" test
}

src_install() {
	# Two jobs would make the same folders at once.
	emake -j1 DESTDIR="${D}" install_sw install_ssldirs
	einstalldocs

	rm "${ED}/usr/$(get_libdir)"/lib{crypto,ssl}.a || die
	# Perl scripts: a prefix need not have a perl. "openssl rehash" does what c_rehash does.
	rm "${ED}"/usr/bin/c_rehash || die
	rm -r "${ED}"/etc/ssl/misc || die
	# The same files once more.
	rm "${ED}"/etc/ssl/*.dist || die
	# Whoever makes them has certificates for this prefix alone.
	rmdir "${ED}"/etc/ssl/{certs,private} || die
}
