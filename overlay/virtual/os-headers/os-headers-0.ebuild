# Copyright 2026 The fprefix authors
# Distributed under the terms of the MIT licence or the Apache License 2.0

EAPI=8

DESCRIPTION="Virtual for the headers of the operating system"

SLOT="0"
KEYWORDS="amd64 arm64"

RDEPEND="sys-kernel/linux-headers"
