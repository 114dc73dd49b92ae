//! Registry of rules.

use crate::check::{
    Rule, bytecode, code_names, effect_rules, elf_rules, file_rules, library_rules, packages,
    symbols, units,
};

/// All rules.
pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "interpreter",
        sentence: "The loader of every program is in the prefix.",
        reason: "The kernel starts the loader that a program names (PT_INTERP). The target's \
                 belongs to another C library, or is not there.",
        remedy: "Rewriting sets it; a prefix without a loader lacks sys-libs/glibc.",
        rewrites: true,
        find: elf_rules::check_interpreter,
    },
    Rule {
        id: "needed",
        sentence: "Every needed library is found in the prefix, by the file's own search path.",
        reason: "What is not found there comes from the target, if it has it, and fits by chance.",
        remedy: "Install the package that has the library into final (a missing RDEPEND of the \
                 ebuild), or build again what needs a library that an upgrade replaced; rewriting \
                 completes search paths.",
        rewrites: true,
        find: library_rules::check_needed,
    },
    Rule {
        id: "start",
        sentence: "Every program starts: the libraries of its libraries are found too.",
        reason: "The loader ends a program of which any library is missing, or is no library.",
        remedy: "See the finding of the library itself; the program is named to show what it \
                 stops.",
        rewrites: false,
        find: library_rules::check_start,
    },
    Rule {
        id: "search-path",
        sentence: "rpath and runpath name directories of the prefix alone.",
        reason: "A directory outside, or one that depends on where the caller is, gives others \
                 the choice of the library that is loaded.",
        remedy: "Rewriting leaves what is in the prefix, and adds what is needed.",
        rewrites: true,
        find: library_rules::check_search_path,
    },
    Rule {
        id: "symbol-version",
        sentence: "Libraries define the symbol versions that are needed of them.",
        reason: "The loader refuses to start a program of which a needed version is missing.",
        remedy: "Build the program against the libraries that are in the prefix: update staging \
                 (`fprefix emerge @world`), then install again.",
        rewrites: false,
        find: library_rules::check_symbol_versions,
    },
    Rule {
        id: "symbol",
        sentence: "Every symbol that a program needs is defined by it or its libraries.",
        reason: "The loader ends a program of which a symbol is missing, at its start or in the \
                 middle of its work.",
        remedy: "The library that is in the prefix is not the one that the program was built \
                 with: build it again, or install the right version of the library.",
        rewrites: false,
        find: symbols::check_undefined,
    },
    Rule {
        id: "loader",
        sentence: "The prefix's loader is sealed.",
        reason: "A copied glibc loader reads /etc/ld.so.preload and /etc/ld.so.cache of the \
                 target and falls back to its library directories, whatever programs say; musl's \
                 does the latter.",
        remedy: "Rewriting seals it.",
        rewrites: true,
        find: elf_rules::check_loader,
    },
    Rule {
        id: "character-sets",
        sentence: "The C library finds its character set modules (gconv) in the prefix.",
        reason: "Modules of the target belong to its own C library, and end a program that loads \
                 them into another.",
        remedy: "Rewriting points it there. Without modules, UTF-8, ASCII and Latin-1 \
                 work; `iconvconfig --prefix=ROOT` writes a cache where there is none.",
        rewrites: true,
        find: elf_rules::check_character_sets,
    },
    Rule {
        id: "locale",
        sentence: "The C library finds its locales in the prefix.",
        reason: "Locales of the target may be of another release of the C library, which ends \
                 programs that load them.",
        remedy: "Rewriting points it to EPREFIX/usr/lib/locale/locale-archive. Without \
                 one, programs run in the C locale; `localedef --prefix=EROOT --add-to-archive` \
                 makes one.",
        rewrites: true,
        find: elf_rules::check_locales,
    },
    Rule {
        id: "name-services",
        sentence: "The C library loads no name service modules of the target.",
        reason: "The target's nsswitch.conf names modules (systemd, sss ...) that belong to the \
                 target's own C library. Users and hosts are still looked up in files and DNS.",
        remedy: "Rewriting closes them off.",
        rewrites: true,
        find: elf_rules::check_name_services,
    },
    Rule {
        id: "opened",
        sentence: "Libraries that programs open while they run, by their own notes, are in the prefix.",
        reason: "A program says in `.note.dlopen` which libraries it opens by name. The sealed loader \
                 searches the program's search path alone, so none comes from the target unless the \
                 caller sets LD_LIBRARY_PATH; the program then lacks what the library is for.",
        remedy: "Install the package that has the library into final, if the program should have it, \
                 and rewrite the program. It is an error for libraries that the note requires.",
        rewrites: false,
        find: code_names::check_opened,
    },
    Rule {
        id: "modules",
        sentence: "No program or list of plugins names code of the target to load.",
        reason: "A framework loads each module that it finds in the directory that was compiled into \
                 it, or that a list of plugins names. A module of the target belongs to other \
                 libraries. A path in a program's data is only noted: it may have another use.",
        remedy: "Build the package with EPREFIX in its directories, write lists of plugins again with \
                 the prefix's own tool, or set the variable that the note names. \
                 `check --run` shows what a program really opens.",
        rewrites: false,
        find: code_names::check_code_names,
    },
    Rule {
        id: "machine",
        sentence: "All programs and libraries are for a machine of which the prefix has the loader.",
        reason: "The loader refuses others.",
        remedy: "Find out which package brings the file, and build it for the board.",
        rewrites: false,
        find: elf_rules::check_machine,
    },
    Rule {
        id: "hardening",
        sentence: "No text relocations, no executable stack.",
        reason: "Hardened targets (SELinux, PaX) refuse them.",
        remedy: "Ask the package's upstream; often an assembler file without a stack note.",
        rewrites: false,
        find: elf_rules::check_hardening,
    },
    Rule {
        id: "elf",
        sentence: "Every ELF file can be read.",
        reason: "What cannot be read cannot be proven.",
        remedy: "Look at the file with readelf; test data that is broken on purpose is harmless.",
        rewrites: false,
        find: elf_rules::check_readable,
    },
    Rule {
        id: "shebang",
        sentence: "Scripts are run by programs of the prefix.",
        reason: "An interpreter of the target may be missing, or of another version.",
        remedy: "Install the interpreter into final (`fprefix emerge app-shells/bash`); \
                 rewriting then sets the line. /bin/sh is on every target and only noted.",
        rewrites: true,
        find: file_rules::check_shebang,
    },
    Rule {
        id: "bytecode",
        sentence: "Compiled copies of Python modules are those of their sources.",
        reason: "Where a copy is stale, Python compiles the module at each start, and cannot keep the \
                 result in a read-only image. A copy that it does not check runs, whatever the source \
                 says.",
        remedy: "Compile the modules again before packing (`python -m compileall`). Rewriting keeps \
                 copies of the modules that it changes.",
        rewrites: false,
        find: bytecode::check_copies,
    },
    Rule {
        id: "unit",
        sentence: "Units start programs that are there.",
        reason: "A unit that names a program by a path that is not in the image fails when it is \
                 started. One that names a program of the prefix by its path without EPREFIX starts \
                 another one, that of the target.",
        remedy: "Correct the path in the ebuild: programs are in EPREFIX/usr/bin. Programs of the \
                 target are only noted, and so are those in whose place `pack` puts programs of the \
                 prefix: the first word of a command line, without quotes.",
        rewrites: false,
        find: units::check_programs,
    },
    Rule {
        id: "effect",
        sentence: "Files for other programs of the target have an effect there.",
        reason: "cron, logrotate and others read /etc of the target and nothing of a prefix. A tmpfiles \
                 rule for a path below EPREFIX fails, because EPREFIX is read-only on a target.",
        remedy: "Leave such files out, or bring them another way, as the note says. `pack` makes \
                 directories of rules below EPREFIX/var and EPREFIX/run links into /var and /run, and \
                 names the rules that are left.",
        rewrites: false,
        find: effect_rules::check_effect,
    },
    Rule {
        id: "link",
        sentence: "Links lead to something in the prefix.",
        reason: "A link out of the prefix leads to whatever the target has there.",
        remedy: "Make the link relative, or install what it leads to.",
        rewrites: false,
        find: file_rules::check_link,
    },
    Rule {
        id: "staging",
        sentence: "Nothing names a path of the build sandbox.",
        reason: "Such a path is on no target, and whoever can make it there is believed.",
        remedy: "Often a build that records its compiler or source directory; patch it, or leave \
                 the file out of the image.",
        rewrites: false,
        find: file_rules::check_staging,
    },
    Rule {
        id: "relocated",
        sentence: "Nothing names the path that relocated packages were built for.",
        reason: "The path is on no target, and whoever can make it there is believed. It is looked for \
                 in every encoding, in what is packed and in names, where the prefix is relocatable or \
                 --relocated-from names the path.",
        remedy: "The file is signed or packed, or its name has the path: patch the ebuild, leave the \
                 file out of the image, or build in a prefix that is not relocatable.",
        rewrites: false,
        find: file_rules::check_relocated,
    },
    Rule {
        id: "place",
        sentence: "Everything is below /usr or /opt.",
        reason: "systemd-sysext merges nothing else.",
        remedy: "An ebuild that installs elsewhere ignores EPREFIX; move the file or mask it with \
                 INSTALL_MASK.",
        rewrites: false,
        find: file_rules::check_place,
    },
    Rule {
        id: "special",
        sentence: "No devices, sockets, pipes, whiteouts or opaque directories.",
        reason: "A whiteout or an opaque directory hides files of the target when the extension \
                 is attached.",
        remedy: "Remove the file from the root.",
        rewrites: false,
        find: file_rules::check_special,
    },
    Rule {
        id: "name",
        sentence: "File names are UTF-8 without control characters.",
        reason: "Not every image format and report can carry others.",
        remedy: "Rename the file.",
        rewrites: false,
        find: file_rules::check_name,
    },
    Rule {
        id: "unfinished",
        sentence: "Nothing is left of a run of fprefix that was killed.",
        reason: "Such a file may be half written. `pack` leaves it out.",
        remedy: "`fprefix rewrite` removes it.",
        rewrites: true,
        find: file_rules::check_unfinished,
    },
    Rule {
        id: "unowned",
        sentence: "Every file was installed by a package.",
        reason: "What pkg_postinst or a person wrote is in no binary package: it may be different \
                 on the next machine, and stays when its package goes.",
        remedy: "Have the ebuild install it. `fprefix renew` installs final anew, without what \
                 packages left that are gone.",
        rewrites: false,
        find: packages::check_unowned,
    },
    Rule {
        id: "preserved",
        sentence: "No library is there that its package no longer has.",
        reason: "Portage keeps a library that an upgrade would remove while a program needs it. \
                 A prefix that is built anew does not have it.",
        remedy: "Build the programs anew: `fprefix emerge @preserved-rebuild`.",
        rewrites: false,
        find: packages::check_preserved,
    },
    Rule {
        id: "owner",
        sentence: "Everything belongs to root, or to whoever made the prefix.",
        reason: "Owners are numbers, and behind a number is somebody else on every target.",
        remedy: "`chown` in the ebuild's src_install goes; programs that need a directory of their \
                 own get it below /var of the target, by tmpfiles.d. Numbers of system users \
                 are only noted.",
        rewrites: false,
        find: file_rules::check_owner,
    },
    Rule {
        id: "mode",
        sentence: "Nothing is writable for everybody, and what runs with other rights is known.",
        reason: "An image is read-only, yet a directory's mode becomes that of the target's.",
        remedy: "Correct the mode in the ebuild; setuid programs and capabilities are only noted.",
        rewrites: false,
        find: file_rules::check_mode,
    },
    Rule {
        id: "access",
        sentence: "Everybody can enter the directories of the prefix.",
        reason: "Behind a directory that is closed to others, root alone finds programs and their \
                 libraries.",
        remedy: "`chmod 0755` the directory. On the way to usr/bin and the library directories it is \
                 an error; elsewhere a package may close a directory on purpose, and it is only noted.",
        rewrites: false,
        find: file_rules::check_access,
    },
];
