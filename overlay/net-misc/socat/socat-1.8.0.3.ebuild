# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Relay between two streams of bytes: sockets, files, pipes, terminals"
HOMEPAGE="http://www.dest-unreach.org/socat/"
SRC_URI="
	http://www.dest-unreach.org/socat/download/${P}.tar.bz2
	mirror://debian/pool/main/s/socat/socat_${PV}.orig.tar.bz2 -> ${P}.tar.bz2
"

LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64 arm64"
IUSE="+readline ssl"
# They want a network, a terminal and much time.
RESTRICT="test"

DEPEND="
	readline? ( sys-libs/readline:= )
	ssl? ( >=dev-libs/openssl-3:= )
"
RDEPEND="${DEPEND}"

DOCS=( BUGREPORTS CHANGES DEVELOPMENT EXAMPLES FAQ FILES PORTING README SECURITY )

src_configure() {
	local myconf=(
		--disable-libwrap
		--enable-ip6
		$(use_enable readline)
		$(use_enable ssl openssl)
	)
	econf "${myconf[@]}"
}

src_install() {
	default

	# They are bash scripts, and a prefix need not have a bash.
	docinto examples
	dodoc socat-{broker,chain,mux}.sh
	rm "${ED}"/usr/bin/socat-{broker,chain,mux}.sh || die
}
