//! Compiling on other machines: here, one that is this one. And not at all what was compiled before.

use crate::harness::{Running, World};
use crate::prefix::{lend_portage, overlay};

/// A compile server on this machine. It ends with the value.
struct Server(Running);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.signal(rustix::process::Signal::KILL);
    }
}

#[test]
fn other_machines_compile() {
    let world = World::new();
    lend_portage(&world);
    overlay(&world);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = world.write("distccd.log", "");
    // The server gives its rights up, and writes its log then.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs_err::set_permissions(&log, mode).unwrap();
    let options = ["--daemon", "--no-detach", "--allow-private", "--listen", "127.0.0.1", "--port"];
    let server = world.run("distccd").args(options).args([port.to_string().as_str()]);
    let server = server.args(["--jobs", "2", "--log-file"]).args([&log]);
    // It changes its user, after which no parent's end is its own; that of its namespace is.
    let words = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent", "--"];
    let server = Server(server.through(words).start());
    let eprefix = "/usr/local/fprefix-distcc";
    let setup = ["setup", "farm", eprefix, "--wrapper-dir", "wrappers", "--overlay", "overlay"];
    world.fprefix(setup).args(["--feature", "distcc", "--feature", "ccache"]).said().succeeds();
    let emerge = |options: &[&str]| {
        let run = world.fprefix([&["emerge"], options].concat()).args(["test-cases/small"]);
        // What the server does not compile is compiled by nobody.
        run.env("DISTCC_HOSTS", format!("127.0.0.1:{port}")).env("DISTCC_FALLBACK", "0").said()
    };
    let said = emerge(&[]);
    let log = fs_err::read_to_string(log).unwrap();
    assert!(log.contains("COMPILE_OK"), "{said}\n{log}");
    let said = said.succeeds();
    assert!(!said.stdout.contains("no masquerade dir"), "{said}");
    let run = world.fprefix(["check", "--run", "small"]).said();
    run.prints("ended with status 42").prints(", 0 from outside");
    drop(server);
    emerge(&["--oneshot", "--usepkg=n"]).succeeds();
}
