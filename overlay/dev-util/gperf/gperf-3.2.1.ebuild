# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Generator of perfect hash functions"
HOMEPAGE="https://www.gnu.org/software/gperf/"
SRC_URI="
	mirror://gnu/gperf/${P}.tar.gz
	mirror://debian/pool/main/g/gperf/gperf_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="GPL-3+"
SLOT="0"
KEYWORDS="amd64 arm64"
