# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

DESCRIPTION="SQL database that lives in one file"
HOMEPAGE="https://www.sqlite.org/"
# Upstream's check-in of the release (its manifest agrees with every file), packed by Debian:
# upstream itself packs it as a zip file.
SRC_URI="mirror://debian/pool/main/s/sqlite3/sqlite3_${PV}.orig.tar.xz"
S="${WORKDIR}/sqlite3-${PV}"

LICENSE="public-domain"
SLOT="3"
KEYWORDS="amd64 arm64"
IUSE="+readline"
# It wants Tcl's headers and hours.
RESTRICT="test"

# zlib is for the archives that the program reads and writes.
DEPEND="
	sys-libs/zlib:=
	readline? ( sys-libs/readline:= )
"
RDEPEND="${DEPEND}"
BDEPEND=">=dev-lang/tcl-8.6"

src_configure() {
	fprefix-toolchain_export BUILD_CC

	local -x CPPFLAGS="${CPPFLAGS}"
	local option
	for option in \
		COLUMN_METADATA DBSTAT_VTAB DESERIALIZE EXPLAIN_COMMENTS MATH_FUNCTIONS \
		PREUPDATE_HOOK SESSION STMTVTAB UNKNOWN_SQL_FUNCTION UNLOCK_NOTIFY
	do
		CPPFLAGS+=" -DSQLITE_ENABLE_${option}"
	done

	local myconf=(
		--disable-editline
		--disable-tcl
		--enable-fts3
		--enable-fts4
		--enable-fts5
		--enable-load-extension
		--enable-rtree
		--enable-threadsafe
		$(use_enable readline)
		$(usev readline "--with-readline-inc=-I${ESYSROOT}/usr/include/readline")
		$(usev readline --with-readline-lib=-lreadline)
	)
	econf "${myconf[@]}"
}

src_install() {
	default
	doman sqlite3.1

	find "${ED}" -name '*.la' -delete || die
}
