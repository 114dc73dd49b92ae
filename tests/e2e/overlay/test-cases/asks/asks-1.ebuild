# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Asks for the network in two phases, and tries in all"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"
IUSE="test"
PROPERTIES="live test_network"
RESTRICT="network-sandbox !test? ( test )"

# Tests write there what is tried; the sandbox shows it.
reach() { :; }
if [[ -e /fprefix/distfiles/reaches ]]; then
	source /fprefix/distfiles/reaches
fi

src_unpack() { reach unpack; }
src_compile() { reach compile; }
src_test() { reach test; }
src_install() { reach install; }
pkg_postinst() { reach postinst; }
