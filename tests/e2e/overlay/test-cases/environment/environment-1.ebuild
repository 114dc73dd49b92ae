# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Installs what builds commonly take from their environment"
HOMEPAGE="https://packages.gentoo.org"
S="${WORKDIR}"

LICENSE="MIT"
SLOT="0"
KEYWORDS="amd64 arm64"

src_compile() {
	local name value
	{
		umask
		date -d @0
		printf '%s\n' b A a B ä | sort
		printf 'TITLE\n' | tr '[:upper:]' '[:lower:]'
		printf '%.1f\n' 1.5
		uname -n
		whoami
		cd bin 2> /dev/null || echo "CDPATH has no effect"
		for name in BASH_ENV CDPATH CFLAGS COLORTERM COLUMNS CPATH CXXFLAGS GREP_OPTIONS HOME LANG LANGUAGE \
			LC_ALL LC_TIME LDFLAGS LD_LIBRARY_PATH LIBRARY_PATH LINES LOGNAME MAKEFLAGS PERL5LIB PERL5OPT \
			PKG_CONFIG_PATH PYTHONPATH PYTHONSTARTUP RUSTFLAGS SHELL TERM TZ USER; do
			value=${!name}
			# No installed file may name the directory of the build.
			echo "${name}=${value/#"${PORTAGE_BUILDDIR}"/}"
		done
	} > environment || die
}

src_install() {
	insinto /usr/share
	doins environment
	mkdir made && echo made > made/file || die
	cp -r made "${ED}/usr/share/made" || die
}
