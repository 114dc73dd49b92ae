# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Virtual for the C library"

SLOT="0"
KEYWORDS="amd64 arm64"

RDEPEND="sys-libs/glibc:2.2"
