#!/usr/bin/env bash
# Written by `fprefix setup`. The sandbox shows it where Portage has its ebuild.sh: what builds a
# package writes to its own directories alone; staging, final and BROOT are read-only for it.
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
	# misc-functions.sh takes what is defined there.
	# shellcheck source=/dev/null
	source "/fprefix/ebuild${PORTAGE_BIN_PATH:?}/ebuild.sh"
	return
fi
phase=("/fprefix/ebuild${PORTAGE_BIN_PATH:?}/ebuild.sh" "$@")
case ${1:-} in
unpack | prepare | configure | compile | test | install) ;;
*) exec "${phase[@]}" ;;
esac
bwrap=(/fprefix/bin/bwrap --die-with-parent)
# An ordinary user's namespace has one user, and gives no right to mount: there has to be another
# one in it.
read -r _ _ users < /proc/self/uid_map
if [[ ${users} == 1 ]]; then
	bwrap+=(--unshare-user --uid 0 --gid 0)
fi
if ! "${bwrap[@]}" --ro-bind / / true; then
	echo "fprefix: this machine forbids namespaces in namespaces, so nothing but the ebuild itself" \
		"keeps this build from writing to the prefix" >&2
	exec "${phase[@]}"
fi
bwrap+=(--ro-bind / / --dev-bind /dev /dev)
for dir in /proc /tmp /fprefix/distfiles /fprefix/staging/tmp /fprefix/staging/cache; do
	bwrap+=(--bind "${dir}" "${dir}")
done
exec "${bwrap[@]}" -- "${phase[@]}"
