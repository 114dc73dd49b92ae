# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Cannot be compiled"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_compile() {
	echo "this is what went wrong"
	false || die "it does not compile"
}
