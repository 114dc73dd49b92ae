# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="A visitors' book: a unit that runs socat, and the directory that it writes to"
HOMEPAGE="http://www.dest-unreach.org/socat/"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

RDEPEND="net-misc/socat"

src_prepare() {
	default

	sed "s:@EPREFIX@:${EPREFIX}:" "${FILESDIR}"/visitors.service > visitors.service || die
}

src_install() {
	insinto /usr/lib/systemd/system
	doins visitors.service
	keepdir /var/lib/visitors
}
