# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

inherit fprefix-toolchain

MY_P="Python-${PV}"
PYVER="$(ver_cut 1-2)"
DESCRIPTION="Interpreted, object-oriented programming language"
HOMEPAGE="https://www.python.org/ https://github.com/python/cpython"
SRC_URI="
	https://www.python.org/ftp/python/${PV}/${MY_P}.tar.xz
	mirror://debian/pool/main/p/python${PYVER}/python${PYVER}_${PV}.orig.tar.xz -> ${MY_P}.tar.xz
"
S="${WORKDIR}/${MY_P}"

LICENSE="PSF-2"
SLOT="${PYVER}"
KEYWORDS="amd64 arm64"
IUSE="+ensurepip +ncurses pgo +readline +sqlite +ssl test"
RESTRICT="!test? ( test )"

DEPEND="
	app-arch/bzip2:=
	app-arch/xz-utils:=
	dev-libs/expat:=
	dev-libs/libffi:=
	sys-libs/zlib:=
	ncurses? ( sys-libs/ncurses:= )
	readline? ( sys-libs/readline:= )
	sqlite? ( dev-db/sqlite:3= )
	ssl? ( dev-libs/openssl:= )
"
# zoneinfo reads the time zones as it runs.
RDEPEND="
	${DEPEND}
	sys-libs/timezone-data
"
BDEPEND="virtual/pkgconfig"

# Prints the folders in which modules are not to be built, as a Setup.local.
_python_disabled-modules() {
	echo '*disabled*'
	echo '_dbm _gdbm _tkinter _uuid nis'
	use ncurses || echo '_curses _curses_panel'
	use readline || echo 'readline'
	use sqlite || echo '_sqlite3'
	use ssl || echo '_hashlib _ssl'
}

# Builds a Python that runs here, with what the other one needs to be built.
_python_build-native() {
	mkdir -p "${WORKDIR}"/native/Modules || die
	pushd "${WORKDIR}"/native >/dev/null || die

	cat > Modules/Setup.local <<-EOF || die
		*disabled*
		_bz2 _ctypes _curses _curses_panel _dbm _gdbm _hashlib _lzma _sqlite3 _ssl _tkinter _uuid
		nis pyexpat readline zlib
	EOF

	CC=${BUILD_CC} CXX=${BUILD_CXX} CHOST=${CBUILD} CFLAGS= CXXFLAGS= CPPFLAGS= LDFLAGS= \
		ECONF_SOURCE=${S} econf \
			--prefix="${T}"/native \
			--disable-shared \
			--disable-test-modules \
			--without-ensurepip
	emake

	popd >/dev/null || die
}

src_prepare() {
	default

	_python_disabled-modules > Modules/Setup.local || die
}

src_configure() {
	fprefix-toolchain_export AR CC CXX PKG_CONFIG READELF BUILD_CC BUILD_CXX

	local myconf=(
		# Libraries are in lib64, the modules in lib, as elsewhere on Gentoo.
		--with-platlibdir=lib
		--enable-shared
		--without-static-libpython

		--enable-ipv6
		--enable-loadable-sqlite-extensions
		--with-dbmliborder=
		--with-openssl-rpath=no
		--with-pkg-config=yes
		$(use_with readline)
		--with-system-expat
		--without-system-libmpdec
		# The prefix's own time zones first, and then those of the system.
		--with-tzpath="${EPREFIX}/usr/share/zoneinfo:/usr/share/zoneinfo"

		# The module comes with pip's wheel inside, for venv; pip itself is not installed.
		--without-ensurepip
		$(use_enable pgo optimizations)
		$(use_enable test test-modules)
		--without-lto
		--without-valgrind
	)

	if fprefix-toolchain_is-cross; then
		_python_build-native
		myconf+=(
			--with-build-python="${WORKDIR}"/native/python
			# Questions that configure asks by looking at the machine.
			ac_cv_buggy_getaddrinfo=no
			ac_cv_file__dev_ptc=no
			ac_cv_file__dev_ptmx=yes
		)
	fi

	# Bluetooth sockets would depend on whose headers lie about.
	ac_cv_header_bluetooth_bluetooth_h=no \
		econf "${myconf[@]}"
}

src_compile() {
	# The byte code of read-only files is judged by what is in them, not by their time.
	emake COMPILEALL_OPTS="-j1 --invalidation-mode checked-hash"

	fprefix-toolchain_is-cross || _python_check-modules
}

# Makes sure that no module was left out in silence.
_python_check-modules() {
	local module modules=( _bz2 _ctypes _decimal _lzma pyexpat zlib )
	use ncurses && modules+=( _curses _curses_panel )
	use readline && modules+=( readline )
	use sqlite && modules+=( _sqlite3 )
	use ssl && modules+=( _hashlib _ssl )

	for module in "${modules[@]}"; do
		LD_LIBRARY_PATH=.${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}} ./python -c "import ${module}" \
			|| die "the module ${module} is missing"
	done
}

src_test() {
	# The rest wants a network, a terminal or an hour.
	local tests=(
		test_bz2 test_ctypes test_curses test_decimal test_ensurepip test_hashlib test_json test_lzma
		test_pyexpat test_readline test_sqlite3 test_ssl test_subprocess test_zipfile test_zlib test_zoneinfo
	)
	# A sandbox that an ordinary user makes has one user and one group to be.
	LD_LIBRARY_PATH=.${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}} \
		./python -m test --fail-env-changed -j"$(nproc)" -i test_user -i test_group "${tests[@]}" \
		|| die "the tests failed"
}

src_install() {
	local libdir=${ED}/usr/lib/python${PYVER}

	emake DESTDIR="${D}" altinstall COMPILEALL_OPTS="-j1 --invalidation-mode checked-hash"

	# The same names as python-exec gives.
	local name
	for name in python pydoc; do
		dosym ${name}${PYVER} /usr/bin/${name}
		dosym ${name}${PYVER} /usr/bin/${name}3
	done
	dosym python${PYVER}-config /usr/bin/python3-config
	dosym python${PYVER}.1 /usr/share/man/man1/python3.1

	_python_forget-build "${libdir}"

	# There is no Tk.
	rm -rf "${ED}"/usr/bin/idle${PYVER} "${libdir}"/{idlelib,tkinter,turtledemo,turtle.py} || die
	find "${libdir}" -name 'turtle.*.pyc' -delete || die
	use ensurepip || rm -r "${libdir}"/ensurepip || die
	rm -rf "${libdir}"/test "${libdir}"/*/test{,s} || die
	use sqlite || rm -r "${libdir}"/sqlite3 || die

	# They are modules; the "env python3" on their first line would lead out of the prefix.
	find "${libdir}" -name '*.py' -exec chmod a-x {} + || die
	rm "${libdir}"/ctypes/macholib/fetch_macholib{,.bat} || die

	dodoc Misc/ACKS README.rst
}

# What sysconfig tells is not to name folders that are gone after the build, nor a tool of it.
_python_forget-build() {
	local file files=()
	readarray -t files < <(grep -rlIF -e "${WORKDIR}" "${1}" "${ED}"/usr/bin "${ED}"/usr/$(get_libdir)/pkgconfig)

	for file in "${files[@]}"; do
		sed -i \
			-e "s:${WORKDIR}/${MY_P}:${EPREFIX}/usr/src/${MY_P}:g" \
			-e "s:${WORKDIR}:${EPREFIX}/usr/src:g" \
			-e "s:/[^' ]*/g\?install -c:install -c:g" \
			"${file}" || die
		[[ ${file} == *.py ]] || continue

		local python=./python
		fprefix-toolchain_is-cross && python=${WORKDIR}/native/python
		LD_LIBRARY_PATH=.${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}} \
			"${python}" -m compileall -q -f -o 0 -o 1 -o 2 --invalidation-mode checked-hash \
			-s "${D}" -p / "${file}" || die
	done
}
