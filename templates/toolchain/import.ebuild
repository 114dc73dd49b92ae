# Written by `fprefix setup`: the build machine's own files, as a package that Portage owns.

EAPI=8

DESCRIPTION={{ recipe.description | conf }}
HOMEPAGE={{ recipe.homepage | conf }}
SRC_URI={{ distfile | conf }}
S="${WORKDIR}"

LICENSE={{ recipe.license | conf }}
SLOT={{ recipe.slot | conf }}
KEYWORDS={{ keyword | conf }}
# The files are the machine's, and stay as they are. They can be fetched from nowhere: the same
# set-up on the same machine makes them again.
RESTRICT="fetch strip"
{% if recipe.rdepend %}
RDEPEND={{ recipe.rdepend | conf }}
{% endif %}

pkg_nofetch() {
	eerror "${A} is made by fprefix setup from the files of this machine's compiler."
	eerror "Run the set-up of this prefix again with --force."
}

src_unpack() {
	:
}

src_install() {
	mkdir -p "${ED}" || die
	tar --extract --file "${DISTDIR}/${A}" --directory "${ED}" --no-same-owner || die
{% if recipe.locale %}
	local locale="${ED}"{{ recipe.locale | conf }}
	mkdir -p "${locale%/*}" || die
	if [[ -d ${locale} ]]; then
		localedef --prefix="${ED}" --add-to-archive "${locale}" || die
		rm -r "${locale}" || die
	elif ! localedef --prefix="${ED}" --inputfile=C --charmap=UTF-8 C.UTF-8; then
		ewarn "This machine has no locale C.UTF-8, and nothing to make it of."
	fi
{% endif %}
}
