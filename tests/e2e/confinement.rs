//! A package that tries, in every phase, to reach what is not its own.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use crate::prefix::{eroot, own};

/// The attempts.
const SCRIPT: &str = "/tests/e2e/overlay/reaches.sh";

/// Things of this machine that a package could reach, for as long as this lives.
struct Machine {
    _dir: tempfile::TempDir,
    _listeners: (TcpListener, UnixListener, UnixListener),
}

impl Machine {
    /// Makes it, and writes down for the package, in `distfiles`, where it is.
    fn new(distfiles: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (secret, socket) = (dir.path().join("secret"), dir.path().join("socket"));
        fs_err::write(&secret, "of a user\n").unwrap();
        // Two tests of one process have one each.
        let name = format!("fprefix-test{}", dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listeners = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UnixListener::bind(&socket).unwrap(),
            UnixListener::bind_addr(&address).unwrap(),
        );
        let namespaces = ["ipc", "mnt", "net", "pid"]
            .map(|kind| fs_err::read_link(format!("/proc/self/ns/{kind}")).unwrap())
            .map(|link| link.display().to_string());
        let values = format!(
            "secret={}\nsocket={}\nabstract=@{name}\nport={}\nhost_namespaces='{}'\n",
            secret.display(),
            socket.display(),
            listeners.0.local_addr().unwrap().port(),
            namespaces.join(" "),
        );
        let script = fs_err::read_to_string(format!("{}{SCRIPT}", env!("CARGO_MANIFEST_DIR")));
        fs_err::write(distfiles.join("reaches"), values + &script.unwrap()).unwrap();
        Self { _dir: dir, _listeners: listeners }
    }
}

/// The files that were written by a phase, below `dir`.
fn written(dir: &Path) -> BTreeSet<String> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("reached-"))
        .map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string())
        .collect()
}

#[test]
fn the_code_of_a_package_reaches_nothing_that_is_not_its_own() {
    let prefix = own();
    fs_err::create_dir_all(prefix.staging.join("etc/portage/gnupg")).unwrap();
    fs_err::write(prefix.staging.join("etc/portage/gnupg/secret"), "of who signs\n").unwrap();
    let _machine = Machine::new(&prefix.distfiles());
    // Runs emerge, and returns the phases that tried.
    let emerge = |args: &[&str]| {
        let said =
            prefix.fprefix(&["emerge"]).args(args).args(["--quiet-build=n"]).said().succeeds();
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(!text.contains("REACHED"), "{args:?}: {text}");
        let tried: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("TRIED "))
            .map(str::to_owned)
            .collect();
        tried.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(emerge(&["--pretend", "test-cases/reaches"]), "depend staging");
    assert_eq!(
        emerge(&["test-cases/reaches"]),
        "compile staging, configure staging, install staging, postinst final, postinst staging, \
         preinst final, preinst staging, prepare staging, pretend final, pretend staging, \
         setup final, setup staging, unpack staging"
    );
    assert!(prefix.in_final("usr/share/reaches/mine").exists());
    assert_eq!(emerge(&["--info", "test-cases/reaches"]), "info staging");
    assert_eq!(emerge(&["--stage", "--config", "=test-cases/reaches-1"]), "config staging");
    assert_eq!(
        emerge(&["--unmerge", "test-cases/reaches"]),
        "postrm final, postrm staging, prerm final, prerm staging"
    );
    // Phases around a merge write to the environment that is merged into.
    let around = |phases: &[&str], at: &Path, dir: &Path| -> BTreeSet<String> {
        let below = at.strip_prefix(dir).unwrap();
        phases.iter().map(|phase| format!("{}/reached-{phase}", below.display())).collect()
    };
    let root = prefix.r#final.join("root");
    let merging = ["preinst", "postinst", "prerm", "postrm"];
    let staging = around(
        &["preinst", "postinst", "prerm", "postrm", "config"],
        &eroot(&prefix.staging),
        &prefix.staging,
    );
    assert_eq!(written(&prefix.staging), staging);
    assert_eq!(written(&prefix.r#final), around(&merging, &root, &prefix.r#final));
    for dir in [prefix.distfiles(), prefix.world.path("overlay"), prefix.world.home()] {
        assert_eq!(written(&dir), BTreeSet::new());
    }
    for dir in ["/usr/local", "/opt", "/home", "/root", "/run", "/var", "/"] {
        for phase in ["depend", "pretend", "compile", "postinst"] {
            let path = Path::new(dir).join(format!("reached-{phase}"));
            assert!(!path.exists(), "{}", path.display());
        }
    }
}

#[test]
fn the_network_is_where_pms_or_the_user_gives_it() {
    let prefix = own();
    let _machine = Machine::new(&prefix.distfiles());
    // Runs emerge, and returns the phases that reached the network.
    let emerge = || {
        let run = prefix.fprefix(&["emerge", "--quiet-build=n", "--oneshot", "test-cases/asks"]);
        let said = run.env("FEATURES", "test").env("USE", "test").said().succeeds();
        let text = format!("{}{}", said.stdout, said.stderr);
        let phases: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("REACHED ")?.strip_suffix(" the network"))
            .map(str::to_owned)
            .collect();
        phases.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(emerge(), "test unpack");
    // A live ebuild keeps a checkout in DISTDIR.
    assert!(prefix.distfiles().join("reached-unpack").exists());
    assert!(!prefix.distfiles().join("reached-test").exists());
    let config = prefix.staging.join("etc/portage");
    prefix.world.write(config.join("env/network"), "FEATURES=fprefix-network\n");
    prefix.world.write(config.join("package.env/mine"), "test-cases/asks network\n");
    assert_eq!(emerge(), "compile install postinst test unpack");
}
