# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Writes to another place than its image directory"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

# Tests write the phase and the place into a file that the sandbox shows.
stray() {
	local phase place
	read -r phase place < /fprefix/distfiles/stray || return 0
	[[ ${phase} == "$1" ]] || return 0
	echo "stray" > source || die
	cp source "${place}" || die "it could not be copied"
}

src_compile() {
	stray compile
}

src_install() {
	stray install
	insinto /usr/share/strays
	newins - mine <<< "mine"
	newins - makeopts <<< "${MAKEOPTS}"
}
