#!/usr/bin/env bash
# Written by `fprefix setup`. The sandbox shows it where Portage has its ebuild.sh and its
# misc-functions.sh: the code of a package runs in a sandbox of its own, which shows what that phase
# needs, and lets it write to its own directories alone (docs/src/how/builds.md).
own="{{ own_phases }}${PORTAGE_BIN_PATH:?}"
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
	# shellcheck source=/dev/null
	source "${own}/ebuild.sh"
	return
fi

case ${0##*/}:${1:-} in
# Removes directories, and runs no code of the package.
ebuild.sh:clean) exec "${own}/ebuild.sh" "$@" ;;
misc-functions.sh:__dyn_package)
	phase=package
	# In this phase Portage does not load what the package has defined: it may hold the key that
	# signs packages.
	export EBUILD_PHASE=clean
	# Nor does it run a program that a package has installed.
	PATH={{ machine_path }}
	;;
misc-functions.sh:*) phase=misc ;;
*) phase=${1:-} ;;
esac

# For an ebuild of EAPI 9 Portage writes these to a file, each as a word of a shell, instead of exporting
# them (PMS, "Defined variables").
said=${PORTAGE_EBUILD_EXTRA_SOURCE:-}
if [[ -f ${said} && ! -L ${said} ]]; then
	while IFS='=' read -r name value; do
		case ${name} in
		CATEGORY | EBUILD_PHASE | EPREFIX | PF | ROOT) printf -v "${name}" %s "${value//\'/}" ;;
		esac
	done < "${said}"
	# The last one counts.
	[[ ${phase} != package ]] || echo EBUILD_PHASE=clean >> "${said}"
fi

has() { [[ " $2 " == *" $1 "* ]]; }

bwrap=({{ bubblewrap }})
hidden=()
hide() {
	local dir
	for dir; do
		[[ ! -d ${dir} ]] || {
			bwrap+=(--tmpfs "${dir}")
			hidden+=(--remount-ro "${dir}")
		}
	done
}
write() {
	local dir
	for dir; do
		[[ ! -d ${dir} ]] || bwrap+=(--bind "${dir}" "${dir}")
	done
}
seal() {
	local path
	for path; do
		[[ ! -e ${path} ]] || bwrap+=(--ro-bind "${path}" "${path}")
	done
}

proc=({{ new_proc }})
# Who may not mount (CAP_SYS_ADMIN is bit 21) needs a user namespace to do so.
while read -r name value; do
	[[ ${name} != CapEff: ]] || break
done < /proc/self/status
if ! ((16#${value} >> 21 & 1)); then
	bwrap+=({{ user_namespace }})
	if ! "${bwrap[@]}" {{ probe }} true; then
		echo "fprefix: this machine forbids namespaces in namespaces, so nothing but the ebuild itself" \
			"keeps it from writing to the prefix" >&2
		exec "${own}/${0##*/}" "$@"
	fi
	# The kernel gives a new /proc only to who sees all of an older one. In `fprefix enter` parts of it
	# are covered, so there a phase sees the processes around it, which it can neither signal nor trace.
	"${bwrap[@]}" {{ probe_of_proc }} true 2> /dev/null ||
		proc=({{ same_proc }})
fi
bwrap+=(
	{{ options }}
	"${proc[@]}"
)
# Packages give files to other users, if there are any.
read -r _ _ users < /proc/self/uid_map
if [[ ${users} != 1 ]]; then
	bwrap+=({{ give_files }})
fi

network={{ no_network }}
case ${phase} in
unpack) ! has live "${PORTAGE_PROPERTIES:-}" || network= ;;
test) ! has test_network "${PORTAGE_PROPERTIES:-}" || network= ;;
esac
case ${phase} in
configure | compile | test | install) ! has distcc "${FEATURES:-}" || network= ;;
esac
if has fprefix-network "${FEATURES:-}" && [[ ${phase} != depend ]]; then
	network=
fi
# shellcheck disable=SC2206
bwrap+=(${network})

environment=staging
case ${ROOT:-/} in
{{ final_dir }}/*)
	environment=final
	hide {{ final_dir }}/tmp
	;;
*) hide {{ final_dir }} ;;
esac
hide {{ build_dir }} {{ cache }} {{ keys }} {{ ssh_keys }}
case ${phase} in
depend)
	seal "${said}"
	;;
unpack)
	! has live "${PORTAGE_PROPERTIES:-}" || write "${PORTAGE_ACTUAL_DISTDIR:-}"
	;;
preinst | postinst | prerm | postrm | config)
	root=${ROOT%/}
	write "${root:-${EPREFIX:?}}"
	# What Portage itself and later builds run.
	seal {{ broot }}/etc {{ broot }}/usr/local
	;;
package)
	write "${PKGDIR:?}" {{ keys }}
	;;
esac
case ${phase} in
configure | compile | test | install)
	! has ccache "${FEATURES:-}" || write "${CCACHE_DIR:-}"
	! has distcc "${FEATURES:-}" || write "${DISTCC_DIR:-}"
	;;
esac
write "${PORTAGE_BUILDDIR:-}"
for script in ebuild.sh misc-functions.sh; do
	bwrap+=(--ro-bind "${own}/${script}" "${PORTAGE_BIN_PATH}/${script}")
done
bwrap+=("${hidden[@]}")

# A phase has no terminal, and what it builds does not depend on the caller's.
export TERM=dumb
unset COLUMNS LINES
report() { printf '%s %s %s\n' "$1" "${CATEGORY:-}/${PF:-}" "${environment}" >> {{ events }}; }

[[ ${phase} == depend || ${phase} == misc ]] || report "${phase}"
"${bwrap[@]}" -- "$0" "$@"
status=$?
if [[ ${status} != 0 && ${phase} != depend ]]; then
	[[ ${phase} != misc ]] || phase=${EBUILD_PHASE:-install}
	report "died:${phase}"
fi
exit "${status}"
