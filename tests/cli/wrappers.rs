//! The scripts that users call stay right whatever the paths in them are called.

use fprefix::base::data::Folder;
use fprefix::base::template::render;
use minijinja::context;

use crate::harness::{World, write_program};

/// Names that a shell would split, expand or end early, had nobody quoted them.
const HOSTILE: [&str; 10] = [
    "plain",
    "two  spaces",
    "it's",
    "double \" quote",
    "$HOME ${x} $(id) `id`",
    "new\nline",
    "back\\slash \\n",
    "-dash; exit 7 & | > < * ? [a] ~ # !",
    "{{ id }} {% raw %}",
    "unicode ü \u{1F980}",
];

/// Prints its arguments, then two variables, each followed by a NUL.
const STAND_IN: &str = "#!/bin/sh\nfor arg in \"$@\" \"${FPREFIX_HOME-unset}\" \"${FPREFIX-unset}\"\n\
                        do printf '%s\\0' \"$arg\"; done\n";

fn words(text: &str) -> Vec<&str> {
    text.trim_end_matches('\0').split('\0').collect()
}

#[test]
fn hostile_names() {
    let world = World::new();
    for name in HOSTILE {
        let program = world.path("bin").join(name).join(name);
        write_program(&program, STAND_IN);
        let home = world.path("homes").join(name);
        for (template, tool) in [("emerge", "emerge"), ("tool", "quickpkg")] {
            let values = context! {
                id => "demo-amd64-usr",
                eprefix => "/usr/local/demo",
                tool,
                program => program.to_str().unwrap(),
                home => home.to_str().unwrap(),
            };
            let text = render(Folder::Wrappers, template, values).unwrap();
            let script = world.path("wrappers").join(template);
            write_program(&script, &text);
            // The caller's home is not the one of the prefix.
            let own = ["-pv", "two  words", "", "*", "$x", "--", "it's\n"];
            let said = world.run(&script).args(own).env("FPREFIX", "other").said().succeeds();
            let start: &[&str] = if template == "emerge" {
                &["--prefix", "demo-amd64-usr", "emerge"]
            } else {
                &["--prefix", "demo-amd64-usr", "run", "quickpkg"]
            };
            let home = world.plain(home.as_os_str().as_encoded_bytes());
            let expected: Vec<&str> =
                start.iter().chain(&own).copied().chain([home.as_str(), "other"]).collect();
            assert_eq!(words(&said.stdout), expected, "{name:?}");
            // Called bare, it is the program's turn to say what it needs.
            let said = world.run(&script).said().succeeds();
            let expected: Vec<&str> = start.iter().copied().chain([&*home, "unset"]).collect();
            assert_eq!(words(&said.stdout), expected, "{name:?}");
        }
    }
}

/// The wrapper of emerge for `program`, as setup writes it where it has no home of its own.
fn without_home(world: &World, program: &str) -> std::path::PathBuf {
    write_program(&world.path("program"), program);
    let values = context! {
        id => "demo-amd64-usr",
        eprefix => "/usr/local/demo",
        program => world.path("program").to_str().unwrap(),
        home => (),
    };
    let script = world.path("script");
    write_program(&script, render(Folder::Wrappers, "emerge", values).unwrap());
    script
}

#[test]
fn the_status_is_the_programs() {
    let world = World::new();
    let script = without_home(&world, "#!/bin/sh\nexit 42\n");
    world.run(&script).said().ends_with(42);
}

/// A variable of the caller that names no home is passed on where setup had none.
#[test]
fn without_a_home_of_its_own() {
    let world = World::new();
    let script = without_home(&world, STAND_IN);
    let said = world.run(&script).without_env("FPREFIX_HOME").said().succeeds();
    assert_eq!(words(&said.stdout), ["--prefix", "demo-amd64-usr", "emerge", "unset", "unset"]);
}

/// The names of the compiler that ebuilds call, with hostile paths of the machine's compiler.
#[test]
fn compilers() {
    let world = World::new();
    for name in HOSTILE {
        let driver = world.path("bin").join(name).join(name);
        write_program(&driver, STAND_IN);
        for (preprocess, distcc) in [(false, None), (true, None), (false, driver.to_str())] {
            let values = context! {
                driver => driver.to_str().unwrap(),
                directory => driver.parent().unwrap().to_str().unwrap(),
                name,
                distcc,
                eprefix => "/usr/local/demo",
                libdir => "/usr/local/demo/usr/lib64",
                loader => "/usr/local/demo/usr/lib64/ld-linux-x86-64.so.2",
                preprocess,
            };
            let script = world.path("compiler");
            write_program(&script, render(Folder::Templates, "broot/compiler", values).unwrap());
            let own = ["-c", "a b.c", "-DX=\"y\""];
            let said = world.run(&script).args(own).said().succeeds();
            let words = words(&said.stdout);
            assert!(words.contains(&"--sysroot=/usr/local/demo"), "{words:?}");
            assert_eq!(words[words.len() - 5..words.len() - 2], own, "{name:?}");
            assert_eq!(words.contains(&"-E"), preprocess);
            assert_eq!(words.contains(&name), distcc.is_some(), "{words:?}");
        }
    }
}

/// shellcheck finds nothing in any script that is generated.
#[test]
fn shellcheck() {
    let world = World::new();
    let id = "demo-amd64-usr";
    let eprefix = "/usr/local/demo";
    let libdir = "/usr/local/demo/usr/lib64";
    let mut scripts = Vec::new();
    let mut add = |dialect: &str, folder, template: &str, values| {
        let name = format!("scripts/{}-{}", scripts.len(), template.replace('/', "-"));
        let path = world.write(name, render(folder, template, values).unwrap());
        scripts.push((dialect.to_owned(), path));
    };
    for name in HOSTILE {
        let path = format!("/{name}");
        let program = path.as_str();
        for template in ["emerge", "tool"] {
            let values = context! { id, eprefix, tool => "quickpkg", program, home => program };
            add("sh", Folder::Wrappers, template, values);
            let values = context! { id, eprefix, tool => "quickpkg", program, home => () };
            add("sh", Folder::Wrappers, template, values);
        }
        for (preprocess, distcc) in [(false, None), (true, None), (false, Some(program))] {
            // Below the name that the sandbox has for it; a tilde in it would be no home.
            let (driver, directory) = (program, "/fprefix/gcc/usr/bin");
            let values = context! {
                driver, directory, name, distcc, eprefix, loader => libdir, libdir, preprocess,
            };
            add("sh", Folder::Templates, "broot/compiler", values);
        }
        let values = context! { program, eprefix, libdir };
        add("sh", Folder::Templates, "broot/pkg-config", values);
    }
    for environment in ["staging", "final"] {
        add("bash", Folder::Templates, "portage/bashrc", context! { environment });
    }
    for dialect in ["sh", "bash"] {
        let paths = scripts.iter().filter(|(of, _)| of == dialect).map(|(_, path)| path);
        // What it says to a quote or a $ in a name that is meant to have one, it says of the name.
        let of_names = "--exclude=SC2016,SC2089,SC2090";
        world.run("shellcheck").args(["-s", dialect, of_names]).args(paths).said().succeeds();
    }
}
