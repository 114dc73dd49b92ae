# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

# 6.5 with the weekly patches up to that day.
MY_P="${P/_p/-}"
DESCRIPTION="Terminal screens and the terminfo database"
HOMEPAGE="https://www.gnu.org/software/ncurses/ https://invisible-island.net/ncurses/"
SRC_URI="
	https://invisible-island.net/archives/ncurses/current/${MY_P}.tgz
	https://invisible-mirror.net/archives/ncurses/current/${MY_P}.tgz
	mirror://debian/pool/main/n/ncurses/ncurses_${PV/_p/+}.orig.tar.gz -> ${MY_P}.tgz
"
S="${WORKDIR}/${MY_P}"

LICENSE="MIT"
# The sub-slot is the number in the soname.
SLOT="0/6"
KEYWORDS="amd64 arm64"
IUSE="minimal"
# There is no suite, only programs to look at.
RESTRICT="test"

# What USE=minimal keeps of the terminfo database.
TERMINALS=(
	alacritty ansi dumb foot ghostty kitty konsole-256color linux putty-256color
	rxvt rxvt-256color screen screen-256color st-256color tmux tmux-256color
	vt100 vt102 vt220 vt52 vte-256color wezterm xterm xterm-256color xterm-color
)

src_configure() {
	# It would name a place for the terminal descriptions.
	unset TERMINFO

	fprefix-toolchain_export BUILD_CC

	local myconf=(
		# Wide characters only. Programs that ask for the narrow libraries get these.
		--enable-widec
		--with-shared
		--without-normal
		--without-debug
		--without-ada
		--without-cxx-binding
		--without-tests
		--without-gpm
		--disable-stripping
		--disable-rpath-hack

		--enable-overwrite
		--enable-pc-files
		--with-pkg-config-libdir="${EPREFIX}/usr/$(get_libdir)/pkgconfig"
		--disable-pkg-ldflags
		--with-manpage-format=normal

		# The prefix's own database, and then those of the system that it runs on.
		--with-default-terminfo-dir="${EPREFIX}/usr/share/terminfo"
		--with-terminfo-dirs="${EPREFIX}/usr/share/terminfo:/etc/terminfo:/lib/terminfo:/usr/share/terminfo"
		--enable-symlinks
		--disable-termcap
		--disable-setuid-environ

		--enable-colorfgbg
		--enable-const
		--enable-echo
		--enable-hard-tabs
	)

	if fprefix-toolchain_is-cross; then
		# The database must be compiled by this very version of tic.
		mkdir "${WORKDIR}"/native || die
		pushd "${WORKDIR}"/native >/dev/null || die
		CC=${BUILD_CC} CHOST=${CBUILD} CFLAGS= CPPFLAGS= LDFLAGS= ECONF_SOURCE="${S}" econf \
			--enable-widec --without-ada --without-cxx --without-debug --without-manpages \
			--without-shared --without-tests
		popd >/dev/null || die
		export TIC_PATH="${WORKDIR}"/native/progs/tic
	fi

	econf "${myconf[@]}"
}

src_compile() {
	if fprefix-toolchain_is-cross; then
		emake -C "${WORKDIR}"/native/include
		emake -C "${WORKDIR}"/native/ncurses
		emake -C "${WORKDIR}"/native/progs tic
	fi

	emake
}

src_install() {
	emake DESTDIR="${D}" install
	einstalldocs

	local name header libdir="${ED}/usr/$(get_libdir)"

	# -lncurses, ncurses.pc and <ncursesw/...> mean these libraries too.
	for name in ncurses form menu panel; do
		ln -s "lib${name}w.so" "${libdir}/lib${name}.so" || die
		ln -s "${name}w.pc" "${libdir}/pkgconfig/${name}.pc" || die
	done
	ln -sf libncursesw.so "${libdir}"/libcurses.so || die
	dodir /usr/include/ncursesw
	for header in "${ED}"/usr/include/*.h; do
		ln -s "../${header##*/}" "${ED}"/usr/include/ncursesw/ || die
	done

	use minimal && remove-rare-terminals
}

# Leaves the terminals of the list above and their aliases.
remove-rare-terminals() {
	local terminal database="${ED}"/usr/share/terminfo keep=()
	for terminal in "${TERMINALS[@]}"; do
		[[ -e ${database}/${terminal::1}/${terminal} ]] || die "${terminal} is missing"
		keep+=( "$(realpath "${database}/${terminal::1}/${terminal}")" ) || die
	done

	printf '%s\n' "${keep[@]}" > "${T}"/keep || die
	find "${database}" -type f -print | grep -vxFf "${T}"/keep | xargs -d '\n' rm || die
	find "${database}" -xtype l -delete || die
	find "${database}" -mindepth 1 -type d -empty -delete || die
}
