# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Upstream's archive is not the one that the Manifest knows"
HOMEPAGE="https://packages.gentoo.org"
SRC_URI="mirror://debian/pool/main/c/cmark/cmark_0.30.2.orig.tar.gz -> ${P}.tar.gz"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"
