# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Writes files that belong to no package"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_install() {
	insinto /usr/share/generates
	newins - installed <<< "installed"
}

pkg_postinst() {
	date +%s%N > "${EROOT}/usr/share/generates/generated" || die
	mkdir -p "${EROOT}/var/lib/generates" || die
	echo state > "${EROOT}/var/lib/generates/state" || die
}
