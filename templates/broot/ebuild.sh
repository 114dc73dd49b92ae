#!/usr/bin/env bash
# Written by `fprefix setup`. The sandbox shows it where Portage has its ebuild.sh: what builds a
# package writes to its own directories alone; staging, final and BROOT are read-only for it.
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
	# misc-functions.sh takes what is defined there.
	# shellcheck source=/dev/null
	source "{{ own_phases }}${PORTAGE_BIN_PATH:?}/ebuild.sh"
	return
fi
phase=("{{ own_phases }}${PORTAGE_BIN_PATH:?}/ebuild.sh" "$@")
case ${1:-} in
unpack | prepare | configure | compile | test | install) ;;
*) exec "${phase[@]}" ;;
esac
bwrap=({{ bubblewrap }})
# An ordinary user's namespace has one user, and gives no right to mount: there has to be another
# one in it.
read -r _ _ users < /proc/self/uid_map
if [[ ${users} == 1 ]]; then
	bwrap+=({{ user_namespace }})
fi
if ! "${bwrap[@]}" {{ probe }} true; then
	echo "fprefix: this machine forbids namespaces in namespaces, so nothing but the ebuild itself" \
		"keeps this build from writing to the prefix" >&2
	exec "${phase[@]}"
fi
bwrap+=(
	{{ options }}
)
exec "${bwrap[@]}" -- "${phase[@]}"
