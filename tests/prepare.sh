# shellcheck shell=sh
# For ./demo and ./test: what they say, how they become root, and a C compiler for cargo.

say() {
	printf '>>> %s\n' "$*" >&2
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Installs Debian packages, saying so, where one of the programs is missing: program=package ...
need() {
	packages=
	for pair in "$@"; do
		command -v "${pair%%=*}" > /dev/null || packages="$packages ${pair#*=}"
	done
	if [ -n "$packages" ]; then
		say "installing$packages"
		as_root apt-get update -qq
		# shellcheck disable=SC2086 # a list of words
		as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $packages > /dev/null
	fi
}

if ! command -v cargo > /dev/null; then
	say "there is no cargo on the search path; get a Rust toolchain first (https://rustup.rs)"
	exit 1
fi
if command -v apt-get > /dev/null; then
	# gcc alone cannot link: it recommends libc6-dev and does not depend on it.
	need cc=gcc cc=libc6-dev
elif ! command -v cc > /dev/null; then
	say "there is no C compiler, which cargo links with; install gcc"
	exit 1
fi
