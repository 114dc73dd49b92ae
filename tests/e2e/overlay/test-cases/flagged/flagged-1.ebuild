# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Installs one file more with USE=extra"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

IUSE="+extra"

src_install() {
	insinto /usr/share/flagged
	newins - always <<< "always"
	use extra && newins - extra <<< "extra"
	return 0
}
