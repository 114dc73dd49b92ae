//! The ebuild repository of a prefix of every day, and what its packages are made of.

use super::Everyday;

impl Everyday {
    /// Writes the ebuild of `name`-`version` with these lines.
    pub(super) fn ebuild(&self, name: &str, version: u32, lines: &str) {
        let text = format!(
            "# Copyright 2026 The fprefix authors\n\
             # Distributed under the terms of the MIT licence or the Apache License 2.0\n\n\
             EAPI=8\nDESCRIPTION=\"A package of every day\"\n\
             HOMEPAGE=\"https://packages.gentoo.org\"\nLICENSE=\"MIT\"\n\
             KEYWORDS=\"amd64 arm64\"\nS=\"${{WORKDIR}}\"\n{lines}\n"
        );
        let file = format!("test-cases/{name}/{name}-{version}.ebuild");
        self.prefix.world.write(self.repository.join(file), text);
    }

    /// A package with one file, which tells its version and a USE flag.
    pub(super) fn plain(&self, name: &str, version: u32, rest: &str) {
        let install = format!(
            "SLOT=0\nIUSE=\"extra\"\n{rest}\nsrc_install() {{\n\tinsinto /usr/share/{name}\n\
             \tnewins - version <<< \"{version} $(usev extra)\"\n}}"
        );
        self.ebuild(name, version, &install);
    }

    /// A library whose soname has its version.
    pub(super) fn library(&self, name: &str, version: u32) {
        let install = format!(
            "SLOT=\"0/{version}\"\nsrc_install() {{\n\
             \techo 'int {name}(void) {{ return {version}; }}' > l.c || die\n\
             \t\"${{CHOST}}-gcc\" ${{CFLAGS}} ${{LDFLAGS}} -shared -fPIC \
             -Wl,-soname,lib{name}.so.{version} l.c -o lib{name}.so.{version} || die\n\
             \tdolib.so lib{name}.so.{version}\n\
             \tdosym lib{name}.so.{version} /usr/$(get_libdir)/lib{name}.so\n}}"
        );
        self.ebuild(name, version, &install);
    }

    /// A program that prints the version of the library that it uses. `operator` is `:=` or nothing.
    pub(super) fn user(&self, name: &str, library: &str, operator: &str) {
        let install = format!(
            "SLOT=0\nRDEPEND=\"test-cases/{library}{operator}\"\nDEPEND=\"${{RDEPEND}}\"\n\
             src_install() {{\n\
             \techo 'int {library}(void); int main(void) {{ return {library}(); }}' > m.c || die\n\
             \t\"${{CHOST}}-gcc\" ${{CFLAGS}} ${{LDFLAGS}} m.c -l{library} -o {name} || die\n\
             \tdobin {name}\n}}"
        );
        self.ebuild(name, 1, &install);
    }

    /// A package with one file, which has the version in its name, in a slot.
    pub(super) fn slotted(&self, name: &str, version: u32, slot: u32) {
        let install = format!(
            "SLOT={slot}\nsrc_install() {{\n\tinsinto /usr/share/slotted\n\
             \tnewins - of-{version} <<< {version}\n}}"
        );
        self.ebuild(name, version, &install);
    }

    pub(super) fn remove_ebuild(&self, name: &str, version: u32) {
        let file = format!("test-cases/{name}/{name}-{version}.ebuild");
        fs_err::remove_file(self.repository.join(file)).unwrap();
    }

    /// Renames the package `before` to `after` in the whole repository.
    pub(super) fn rename(&self, before: &str, after: &str) {
        let (dir, new) = (self.repository.join(before), self.repository.join(after));
        let name = |atom: &str| atom.split_once('/').unwrap().1.to_owned();
        fs_err::rename(dir, &new).unwrap();
        for entry in fs_err::read_dir(&new).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            let file = file.replacen(&name(before), &name(after), 1);
            fs_err::rename(&path, path.with_file_name(file)).unwrap();
        }
        let word = regex::Regex::new(&format!(r"\b{before}\b")).unwrap();
        for entry in walkdir::WalkDir::new(self.repository.join("test-cases")) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "ebuild") {
                let text = fs_err::read_to_string(&path).unwrap();
                fs_err::write(&path, word.replace_all(&text, after).as_ref()).unwrap();
            }
        }
    }

    /// Writes a line about packages that change their names or slots (PMS 4.4.4).
    pub(super) fn announce(&self, line: &str) {
        let file = self.repository.join("profiles/updates/4Q-2026");
        let before = fs_err::read_to_string(&file).unwrap_or_default();
        self.prefix.world.write(file, format!("{before}{line}\n"));
    }
}
