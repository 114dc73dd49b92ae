# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Tries in every phase to reach what is not its own"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

# Tests write there what is tried; the sandbox shows it.
reach() { :; }
if [[ -e /fprefix/distfiles/reaches ]]; then
	source /fprefix/distfiles/reaches
fi
if [[ ${EBUILD_PHASE} == depend ]]; then
	reach depend
fi

pkg_pretend() { reach pretend; }
pkg_setup() { reach setup; }
src_unpack() { reach unpack; }
src_prepare() { reach prepare; eapply_user; }
src_configure() { reach configure; }
src_compile() { reach compile; }
src_install() {
	reach install
	insinto /usr/share/reaches
	newins - mine <<< "mine"
}
pkg_preinst() { reach preinst; }
pkg_postinst() { reach postinst; }
pkg_prerm() { reach prerm; }
pkg_postrm() { reach postrm; }
pkg_config() { reach config; }
pkg_info() { reach info; }
