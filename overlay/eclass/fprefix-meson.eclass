# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

# @ECLASS: fprefix-meson.eclass
# @MAINTAINER:
# The fprefix authors
# @SUPPORTED_EAPIS: 8
# @PROVIDES: fprefix-ninja fprefix-toolchain
# @BLURB: phases for packages that are built by Meson
# @DESCRIPTION:
# Builds with Meson and Ninja, outside the sources, into the prefix.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

if [[ ! ${_FPREFIX_MESON_ECLASS} ]]; then
_FPREFIX_MESON_ECLASS=1

inherit fprefix-ninja fprefix-toolchain

BDEPEND="
	>=dev-build/meson-1.0
	virtual/pkgconfig
"

# @ECLASS_VARIABLE: EMESON_SOURCE
# @DEFAULT_UNSET
# @DESCRIPTION:
# The folder with the meson.build, S by default.

# @ECLASS_VARIABLE: BUILD_DIR
# @OUTPUT_VARIABLE
# @DESCRIPTION:
# The folder of the build.

# @VARIABLE: emesonargs
# @DEFAULT_UNSET
# @DESCRIPTION:
# An array of further arguments for meson setup, to be set in src_configure
# before fprefix-meson_src_configure is called.

# @FUNCTION: _fprefix-meson_list
# @USAGE: <word>...
# @INTERNAL
# @DESCRIPTION:
# Prints the words as a list that a machine file takes.
_fprefix-meson_list() {
	local word list=
	for word; do
		word=${word//\\/\\\\}
		list+="${list:+, }'${word//\'/\\\'}'"
	done
	echo "[${list}]"
}

# @FUNCTION: _fprefix-meson_machine-file
# @USAGE: <file> [BUILD_]
# @INTERNAL
# @DESCRIPTION:
# Writes the programs, and where they differ the machine itself, as Meson wants
# them. With BUILD_ they are those of the machine that builds.
_fprefix-meson_machine-file() {
	local file=$1 prefix=$2 cpu family

	{
		echo '[binaries]'
		# Unquoted: a command may carry arguments.
		echo "c = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}CC))"
		echo "cpp = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}CXX))"
		echo "ar = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}AR))"
		echo "nm = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}NM))"
		echo "objcopy = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}OBJCOPY))"
		echo "strip = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}STRIP))"
		# Two spellings: Meson 1.3 renamed it.
		echo "pkgconfig = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}PKG_CONFIG))"
		echo "pkg-config = $(_fprefix-meson_list $(fprefix-toolchain_get ${prefix}PKG_CONFIG))"

		if [[ ! ${prefix} ]]; then
			echo '[built-in options]'
			echo "c_args = $(_fprefix-meson_list ${CPPFLAGS} ${CFLAGS})"
			echo "cpp_args = $(_fprefix-meson_list ${CPPFLAGS} ${CXXFLAGS})"
			echo "c_link_args = $(_fprefix-meson_list ${CFLAGS} ${LDFLAGS})"
			echo "cpp_link_args = $(_fprefix-meson_list ${CXXFLAGS} ${LDFLAGS})"
		fi

		if fprefix-toolchain_is-cross && [[ ! ${prefix} ]]; then
			cpu=${CHOST%%-*}
			case ${cpu} in
				i?86) family=x86 ;;
				*) family=${cpu} ;;
			esac
			echo '[host_machine]'
			echo "system = 'linux'"
			echo "cpu_family = '${family}'"
			echo "cpu = '${cpu}'"
			echo "endian = 'little'"
			echo '[properties]'
			echo 'needs_exe_wrapper = true'
		fi
	} > "${file}" || die
}

# @FUNCTION: fprefix-meson_src_configure
# @DESCRIPTION:
# Runs meson setup.
fprefix-meson_src_configure() {
	: "${BUILD_DIR:=${WORKDIR}/${P}_build}"

	_fprefix-meson_machine-file "${T}"/fprefix-host.ini
	local machine=( --native-file "${T}"/fprefix-host.ini )
	if fprefix-toolchain_is-cross; then
		_fprefix-meson_machine-file "${T}"/fprefix-build.ini BUILD_
		machine=( --cross-file "${T}"/fprefix-host.ini --native-file "${T}"/fprefix-build.ini )
	fi

	local mesonargs=(
		"${machine[@]}"
		--prefix "${EPREFIX}/usr"
		--libdir "$(get_libdir)"
		--sysconfdir "${EPREFIX}/etc"
		--localstatedir "${EPREFIX}/var"
		--buildtype plain
		--default-library shared
		--wrap-mode nodownload
		-Db_pch=false
		-Dwerror=false
		"${emesonargs[@]}"
	)

	set -- meson setup "${mesonargs[@]}" "${EMESON_SOURCE:-${S}}" "${BUILD_DIR}"
	echo "${@@Q}" >&2
	# The machine file carries the flags; from the environment Meson would
	# give those of CHOST to the compiler of CBUILD too.
	(
		unset CC CXX CPP AR NM OBJCOPY STRIP CFLAGS CXXFLAGS CPPFLAGS LDFLAGS
		"${@}"
	) || die "meson setup failed"
}

# @FUNCTION: fprefix-meson_src_compile
# @DESCRIPTION:
# Builds everything.
fprefix-meson_src_compile() {
	fprefix-ninja "${BUILD_DIR}"
}

# @FUNCTION: fprefix-meson_src_test
# @DESCRIPTION:
# Runs the tests.
fprefix-meson_src_test() {
	meson test --print-errorlogs -C "${BUILD_DIR}" || die "the tests failed"
}

# @FUNCTION: fprefix-meson_src_install
# @DESCRIPTION:
# Installs into the image, and the documentation beside it.
fprefix-meson_src_install() {
	DESTDIR="${D}" meson install --no-rebuild -C "${BUILD_DIR}" || die "meson install failed"
	einstalldocs
}

fi

EXPORT_FUNCTIONS src_configure src_compile src_test src_install
