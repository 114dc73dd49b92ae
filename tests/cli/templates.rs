//! What the templates become.

use fprefix::base::data::Folder;
use fprefix::base::template::render;
use insta::assert_snapshot;
use minijinja::context;

fn make_conf(environment: &str, built_in_only: bool, fetcher: &str) -> String {
    let values = context! {
        environment,
        name => "demo-amd64-usr",
        chost => "x86_64-cros-linux-gnu",
        cbuild => "x86_64-cros-linux-gnu",
        build_epoch => 946_684_800,
        cflags => "-O2 -pipe",
        makeopts => "-j4",
        keywords => "amd64 -~amd64",
        use_flags => "-nls two \"$words\"",
        inside => format!("/fprefix/{environment}"),
        fetcher,
        fetch_program => fetcher,
        binpkg_options => "",
        features => if built_in_only { vec!["ccache", "-strict"] } else { Vec::new() },
        built_in_only,
    };
    render(Folder::Templates, "portage/make.conf", values).unwrap()
}

#[test]
fn make_conf_of_staging() {
    assert_snapshot!(make_conf("staging", true, "wget"));
}

#[test]
fn make_conf_of_final() {
    assert_snapshot!(make_conf("final", false, "curl"));
}

#[test]
fn repos_conf() {
    let values = context! {
        main => "gentoo",
        repos => [
            context! { name => "gentoo", location => "/fprefix/repos/gentoo", priority => 1 },
            context! { name => "fprefix", location => "/fprefix/staging/repos/fprefix", priority => -100 },
        ],
    };
    assert_snapshot!(render(Folder::Templates, "portage/repos.conf", values).unwrap());
}

#[test]
fn mirrors() {
    let mirrors = [context! { name => "debian", url => "https://mirror.invalid/debian" }];
    assert_snapshot!(render(Folder::Templates, "portage/mirrors", context! { mirrors }).unwrap());
}

#[test]
fn bashrc() {
    let values = context! { environment => "final" };
    assert_snapshot!(render(Folder::Templates, "portage/bashrc", values).unwrap());
}

#[test]
fn wrappers() {
    let values = context! {
        id => "demo-amd64-usr",
        eprefix => "/usr/local/demo",
        tool => "quickpkg",
        program => "/home/me/it's here/fprefix",
        home => "/home/me/$HOME",
    };
    let text: String = ["emerge", "tool"]
        .into_iter()
        .map(|name| render(Folder::Wrappers, name, &values).unwrap() + "\n")
        .collect();
    assert_snapshot!(text);
}

#[test]
fn compilers() {
    let script = |preprocess: bool, distcc: Option<&str>| {
        let values = context! {
            driver => "/fprefix/gcc/usr/bin/x86_64-linux-gnu-gcc-12",
            directory => "/fprefix/gcc/usr/bin",
            name => "x86_64-linux-gnu-gcc-12",
            eprefix => "/usr/local/demo",
            libdir => "/usr/local/demo/usr/lib64",
            loader => "/usr/local/demo/usr/lib64/ld-linux-x86-64.so.2",
            preprocess,
            distcc,
        };
        render(Folder::Templates, "broot/compiler", values).unwrap()
    };
    let distributed = script(false, Some("/usr/bin/distcc"));
    assert_snapshot!(script(false, None) + &script(true, None) + &distributed);
}

#[test]
fn pkg_config() {
    let values = context! {
        program => "/usr/bin/pkg-config",
        eprefix => "/usr/local/demo",
        libdir => "/usr/local/demo/usr/lib64",
    };
    assert_snapshot!(render(Folder::Templates, "broot/pkg-config", values).unwrap());
}

/// A value that could end its line early is refused: repos.conf and the files of a profile know no
/// quoting.
#[test]
fn values_that_would_break_their_format() {
    for bad in ["a\nb", "a\rb", "a\0b"] {
        let mirrors = [context! { name => "debian", url => bad }];
        let error = render(Folder::Templates, "portage/mirrors", context! { mirrors }).unwrap_err();
        assert!(format!("{error:#}").contains("it has a line break"), "{error:#}");
    }
}
