# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

# @ECLASS: fprefix-cmake.eclass
# @MAINTAINER:
# The fprefix authors
# @SUPPORTED_EAPIS: 8
# @PROVIDES: fprefix-ninja fprefix-toolchain
# @BLURB: phases for packages that are built by CMake
# @DESCRIPTION:
# Builds with Ninja, outside the sources, into the prefix. Libraries, headers
# and packages are looked for in the prefix alone, programs on the machine.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

if [[ ! ${_FPREFIX_CMAKE_ECLASS} ]]; then
_FPREFIX_CMAKE_ECLASS=1

inherit fprefix-ninja fprefix-toolchain

BDEPEND=">=dev-build/cmake-3.20"

# @ECLASS_VARIABLE: CMAKE_USE_DIR
# @DEFAULT_UNSET
# @DESCRIPTION:
# The folder with the CMakeLists.txt, S by default.

# @ECLASS_VARIABLE: BUILD_DIR
# @OUTPUT_VARIABLE
# @DESCRIPTION:
# The folder of the build.

# @VARIABLE: mycmakeargs
# @DEFAULT_UNSET
# @DESCRIPTION:
# An array of further arguments for cmake, to be set in src_configure before
# fprefix-cmake_src_configure is called.

# @FUNCTION: _fprefix-cmake_toolchain-file
# @INTERNAL
# @DESCRIPTION:
# Writes what CMake has to know about the machine, and prints the file's path.
_fprefix-cmake_toolchain-file() {
	local file=${BUILD_DIR}/fprefix-toolchain.cmake variable program

	{
		if fprefix-toolchain_is-cross; then
			echo 'set(CMAKE_SYSTEM_NAME Linux)'
			echo "set(CMAKE_SYSTEM_PROCESSOR ${CHOST%%-*})"
		fi
		for variable in AR NM OBJCOPY OBJDUMP RANLIB READELF STRIP; do
			program=$(type -P "$(fprefix-toolchain_get ${variable})") || continue
			echo "set(CMAKE_${variable} \"${program}\" CACHE FILEPATH \"\")"
		done
		echo "set(CMAKE_FIND_ROOT_PATH \"${ESYSROOT:-/}\")"
		echo 'set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)'
		echo 'set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)'
		echo 'set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)'
		echo 'set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)'
	} > "${file}" || die

	echo "${file}"
}

# @FUNCTION: fprefix-cmake_src_configure
# @DESCRIPTION:
# Runs cmake.
fprefix-cmake_src_configure() {
	: "${BUILD_DIR:=${WORKDIR}/${P}_build}"
	mkdir -p "${BUILD_DIR}" || die

	fprefix-toolchain_export CC CXX PKG_CONFIG

	local toolchain_file
	toolchain_file=$(_fprefix-cmake_toolchain-file) || die

	local cmakeargs=(
		-G Ninja
		-DCMAKE_TOOLCHAIN_FILE="${toolchain_file}"
		# A release build, with the user's flags and not CMake's -O3.
		-DCMAKE_BUILD_TYPE=Release
		-DCMAKE_ASM_FLAGS_RELEASE=
		-DCMAKE_C_FLAGS_RELEASE=-DNDEBUG
		-DCMAKE_CXX_FLAGS_RELEASE=-DNDEBUG
		-DCMAKE_C_FLAGS="${CPPFLAGS} ${CFLAGS}"
		-DCMAKE_CXX_FLAGS="${CPPFLAGS} ${CXXFLAGS}"
		-DCMAKE_INSTALL_PREFIX="${EPREFIX}/usr"
		-DCMAKE_INSTALL_LIBDIR="$(get_libdir)"
		-DCMAKE_INSTALL_SYSCONFDIR="${EPREFIX}/etc"
		-DCMAKE_INSTALL_LOCALSTATEDIR="${EPREFIX}/var"
		-DCMAKE_INSTALL_DOCDIR="share/doc/${PF}"
		# The compiler gives each file its runpath. CMake would take it away when it installs.
		-DCMAKE_SKIP_RPATH=ON
		-DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON
		-DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF
		-DCMAKE_VERBOSE_MAKEFILE=ON
		-DBUILD_SHARED_LIBS=ON
		# Not every project asks for each of these.
		--no-warn-unused-cli
		-Wno-dev
		"${mycmakeargs[@]}"
	)

	set -- cmake "${cmakeargs[@]}" -S "${CMAKE_USE_DIR:-${S}}" -B "${BUILD_DIR}"
	echo "${@@Q}" >&2
	"${@}" || die "cmake failed"
}

# @FUNCTION: fprefix-cmake_src_compile
# @DESCRIPTION:
# Builds everything.
fprefix-cmake_src_compile() {
	fprefix-ninja "${BUILD_DIR}"
}

# @FUNCTION: fprefix-cmake_src_test
# @DESCRIPTION:
# Runs ctest. The libraries of the build come first, since nothing in there
# has a runpath that leads to them.
fprefix-cmake_src_test() {
	local folders
	folders=$(find "${BUILD_DIR}" -name '*.so' -printf '%h\n' | sort -u | tr '\n' ':') || die

	LD_LIBRARY_PATH="${folders%:}${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}" \
		ctest --test-dir "${BUILD_DIR}" --output-on-failure || die "the tests failed"
}

# @FUNCTION: fprefix-cmake_src_install
# @DESCRIPTION:
# Installs into the image, and the documentation beside it.
fprefix-cmake_src_install() {
	DESTDIR="${D}" fprefix-ninja "${BUILD_DIR}" install
	einstalldocs
}

fi

EXPORT_FUNCTIONS src_configure src_compile src_test src_install
