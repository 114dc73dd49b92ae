# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Time zones and their daylight saving rules"
HOMEPAGE="https://www.iana.org/time-zones"
SRC_URI="
	https://data.iana.org/time-zones/releases/tzdata${PV}.tar.gz
	mirror://debian/pool/main/t/tzdata/tzdata_${PV}.orig.tar.gz -> tzdata${PV}.tar.gz
"
S="${WORKDIR}"

LICENSE="public-domain"
SLOT="0"
KEYWORDS="amd64 arm64"

# For zic, the compiler of the rules.
BDEPEND="sys-libs/timezone-data"

src_compile() {
	# The same rules in one file, and its version on the first line.
	emake VERSION_DEPS= tzdata.zi

	local zic
	zic=$(PATH="${PATH}:/usr/sbin:/sbin" type -P zic) || die "zic is missing"
	"${zic}" -b slim -d zoneinfo tzdata.zi || die "zic failed"
}

src_install() {
	insinto /usr/share
	doins -r zoneinfo
	insinto /usr/share/zoneinfo
	doins iso3166.tab leap-seconds.list leapseconds tzdata.zi zone.tab zone1970.tab

	dodoc NEWS README
}
