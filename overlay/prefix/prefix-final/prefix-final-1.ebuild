# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="What every program of a prefix needs when it runs"
HOMEPAGE="https://github.com/flatcar/scripts"

LICENSE="metapackage"
SLOT="0"
KEYWORDS="amd64 arm64"

RDEPEND="
	sys-libs/gcc-runtime
	virtual/libc
"
