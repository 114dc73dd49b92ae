# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Library for editing lines that a user types"
HOMEPAGE="https://tiswww.case.edu/php/chet/readline/rltop.html https://git.savannah.gnu.org/cgit/readline.git"
SRC_URI="
	mirror://gnu/readline/${P}.tar.gz
	mirror://debian/pool/main/r/readline/readline_${PV}.orig.tar.gz -> ${P}.tar.gz
"

LICENSE="GPL-3+"
# The sub-slot is the number in the soname.
SLOT="0/8"
KEYWORDS="amd64 arm64"

DEPEND="sys-libs/ncurses:="
RDEPEND="${DEPEND}"

PATCHES=(
	"${FILESDIR}"/${P}-unknown-locale.patch
	"${FILESDIR}"/${P}-no-rpath.patch
)

src_configure() {
	local myconf=(
		--with-curses
		# Or libreadline.so would leave it to each program to bring a libncurses.
		--with-shared-termcap-library=-lncursesw
		--disable-install-examples
	)

	# What configure would find out by running a program, or by chance.
	bash_cv_termcap_lib=libncurses \
	bash_cv_func_sigsetjmp=present \
	bash_cv_func_ctype_nonascii=yes \
	bash_cv_wcwidth_broken=no \
		econf "${myconf[@]}"
}
