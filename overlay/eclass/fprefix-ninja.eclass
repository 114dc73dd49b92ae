# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

# @ECLASS: fprefix-ninja.eclass
# @MAINTAINER:
# The fprefix authors
# @SUPPORTED_EAPIS: 8
# @BLURB: runs Ninja with the number of jobs that MAKEOPTS allows

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI:-0} not supported" ;;
esac

if [[ ! ${_FPREFIX_NINJA_ECLASS} ]]; then
_FPREFIX_NINJA_ECLASS=1

BDEPEND="dev-build/ninja"

# @FUNCTION: fprefix-ninja
# @USAGE: <folder of the build> [arguments]
# @DESCRIPTION:
# Runs Ninja there and dies when it fails.
fprefix-ninja() {
	local folder=$1 jobs
	shift

	jobs=$(sed -nE 's/.*(^|[[:space:]])(-j|--jobs[=[:space:]])[[:space:]]*([0-9]+).*/\3/p' <<< "${MAKEOPTS}")

	set -- ninja -v ${jobs:+-j${jobs}} -C "${folder}" "${@}"
	echo "${@}" >&2
	"${@}" || die "${*} failed"
}

fi
