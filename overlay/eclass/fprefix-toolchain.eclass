# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

# @ECLASS: fprefix-toolchain.eclass
# @MAINTAINER:
# The fprefix authors
# @SUPPORTED_EAPIS: 8
# @BLURB: names the compiler and its companions for CHOST and CBUILD
# @DESCRIPTION:
# For build systems which, unlike a configure script, do not look for the
# programs of CHOST themselves. A variable that the user has set wins; then
# comes the program with the machine's name in front, then the plain one.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

if [[ ! ${_FPREFIX_TOOLCHAIN_ECLASS} ]]; then
_FPREFIX_TOOLCHAIN_ECLASS=1

# @FUNCTION: fprefix-toolchain_is-cross
# @RETURN: 0 if the machine that builds is not the one that runs the result
fprefix-toolchain_is-cross() {
	[[ ${CBUILD:-${CHOST}} != "${CHOST}" ]]
}

# @FUNCTION: _fprefix-toolchain_program
# @USAGE: <machine> <program>
# @INTERNAL
# @DESCRIPTION:
# Prints the name of the program for that machine.
_fprefix-toolchain_program() {
	if [[ $1 ]] && type -P "$1-$2" >/dev/null; then
		echo "$1-$2"
	else
		echo "$2"
	fi
}

# @FUNCTION: fprefix-toolchain_get
# @USAGE: <variable>
# @DESCRIPTION:
# Prints what the variable (CC, CXX, AR, ... or BUILD_CC, BUILD_CXX, ...) is
# to be: a command, which may carry arguments.
fprefix-toolchain_get() {
	local variable=$1 machine=${CHOST}
	if [[ ${!variable} ]]; then
		echo "${!variable}"
		return
	fi

	if [[ ${variable} == BUILD_* ]]; then
		machine=${CBUILD:-${CHOST}}
		variable=${variable#BUILD_}
		# Without a cross compiler in play, the two are one.
		if ! fprefix-toolchain_is-cross && [[ ${!variable} ]]; then
			echo "${!variable}"
			return
		fi
	fi

	case ${variable} in
		CC) _fprefix-toolchain_program "${machine}" gcc ;;
		CXX) _fprefix-toolchain_program "${machine}" g++ ;;
		AR|AS|LD|NM|OBJCOPY|OBJDUMP|RANLIB|READELF|STRIP)
			_fprefix-toolchain_program "${machine}" "${variable,,}" ;;
		PKG_CONFIG) _fprefix-toolchain_program "${machine}" pkg-config ;;
		*) die "${FUNCNAME}: no program is known for ${variable}" ;;
	esac
}

# @FUNCTION: fprefix-toolchain_export
# @USAGE: <variable>...
# @DESCRIPTION:
# Sets and exports each of the variables.
fprefix-toolchain_export() {
	local variable
	for variable; do
		export "${variable}=$(fprefix-toolchain_get "${variable}")"
	done
}

fi
