# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Stops in one phase until a test lets it go on"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

# Tests write the phase in which to stop into a file that the sandbox shows. slow-begun and slow-gate
# are FIFOs: one tells the test that the build has stopped, the other lets it go on.
stop() {
	local asked
	read -r asked < /fprefix/distfiles/slow-phase || return 0
	if [[ ${asked} == "$1 ${ROOT:-/}" ]]; then
		echo begun > /fprefix/distfiles/slow-begun || die
		read -r < /fprefix/distfiles/slow-gate
	fi
}

src_compile() {
	stop compile
}

src_install() {
	insinto /usr/share/slow
	local number
	for number in {1..200}; do
		newins - "${number}" <<< "${number}"
	done
}

pkg_preinst() {
	stop preinst
}

pkg_postinst() {
	stop postinst
}
