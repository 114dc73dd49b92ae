//! Extensions in every format, attached by the systemd of several releases of Debian, booted.

use std::path::Path;

use super::debian::{Debian, write};
use super::{FORMATS, root};
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::stdout_of;
use crate::harness::wait::LIMIT;

/// Makes what containers lack, attaches each extension in turn and tells what came of it.
///
/// systemd takes the nodes of loop devices away with their devices, so they are made each time.
/// Units start at once where systemd knows `EXTENSION_RELOAD_MANAGER` (255); before, they are known
/// to it after a reload.
const SCRIPT: &str = r#"exec > /report/log 2>&1
set -u
systemctl --version | head -n 1
# The second word is the number; a root of packages that were only extracted may have no sed.
version=$(set -- $(systemctl --version); echo $2)
mkdir -p /var/lib/extensions
ended() {
	while :; do
		case $(systemctl is-active $1) in
		active | failed) break ;;
		esac
	done
}
if [ -e /var/lib/extensions/served ]; then
	ended served.service
	systemctl is-active served.service served-rules.service
	ls -ld /usr/local/served/var/lib/served/ /run/served/door
	echo "ttl $(cat /proc/sys/net/ipv4/ip_default_ttl)"
	udevadm verify /usr/lib/udev/rules.d/60-served.rules
	busctl list --acquired --activatable --no-legend
	busctl --expect-reply=no call org.served /org/served org.freedesktop.DBus.Peer Ping
	ended served-bus.service
	systemctl is-active served-bus.service
	systemctl stop systemd-sysext.service
	systemd-sysext unmerge
	rm -rf /var/lib/extensions/served
	systemctl daemon-reload
	systemctl stop served.service served-rules.service served-bus.service
fi
for case in /report/cases/*; do
	[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
	for number in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
		[ -e /dev/loop$number ] || mknod /dev/loop$number b 7 $number
	done
	cp -a $case/* /var/lib/extensions/
	echo "case ${case##*/}"
	# Five starts in ten seconds are too many for systemd (systemd.unit(5), StartLimitBurst).
	systemctl reset-failed systemd-sysext.service small.service 2> /dev/null
	systemctl start systemd-sysext.service
	systemd-sysext status --no-legend
	(. $case/../../eprefix; $eprefix/usr/bin/program)
	echo "status $?"
	started=no
	if [ "$version" -ge 255 ]; then
		while :; do
			case $(systemctl is-active small.service) in
			active) started=yes; break ;;
			failed) break ;;
			esac
		done
	elif ! systemctl is-active --quiet small.service; then
		systemctl daemon-reload
		systemctl start small.service && started=reload
	fi
	echo "unit $started"
	systemctl stop small.service
	systemctl stop systemd-sysext.service
	systemd-sysext unmerge
	[ ! -e /usr/lib/systemd/system/small.service ] && echo detached
	rm -rf /var/lib/extensions/*
	systemctl daemon-reload
done
echo end
systemctl poweroff --force
"#;

/// A namespace of its own, in which nspawn has its /run and the cgroups it wants; all goes with it.
const BOOT: &str = "mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2> /dev/null
exec timeout --signal=KILL \"$2\" systemd-nspawn --quiet --register=no --keep-unit --directory=\"$1\" \
	--boot --console=pipe --resolv-conf=off --private-network --capability=all \
	--system-call-filter='@mount @keyring bpf' -- systemd.unit=report.target";

/// A root with a program, and a unit for it that lies in usr/lib like those of packages.
fn extension(eprefix: &'static str) -> SmallRoot {
    let small = root(eprefix);
    let units = small.beside("units/usr/lib/systemd/system");
    let unit = format!(
        "[Unit]\nDescription=A unit of an extension\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
         SuccessExitStatus=42\nExecStart={eprefix}/usr/bin/program\n"
    );
    write(&units.join("small.service"), unit);
    fs_err::create_dir_all(units.join("multi-user.target.upholds")).unwrap();
    let link = units.join("multi-user.target.upholds/small.service");
    fs_err::os::unix::fs::symlink("../small.service", link).unwrap();
    small
}

/// Puts an extension into `debian` that is attached at boot. Its unit runs as a user of its own, in a
/// directory that a rule makes, and a bus starts another.
fn serves(debian: &Debian) {
    let served = root("/usr/local/served");
    let eprefix = served.eprefix;
    let unit = |more: &str| {
        format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nSuccessExitStatus=42\n{more}\
             ExecStart=/usr/bin/program\n"
        )
    };
    let own = unit(&format!("User=served\nWorkingDirectory={eprefix}/var/lib/served\n"));
    let policy = "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\" \
                  \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\
                  <policy context=\"default\"><allow send_destination=\"org.served\"/></policy></busconfig>\n";
    for (path, text) in [
        ("usr/lib/systemd/system/served.service", own.as_str()),
        ("usr/lib/systemd/system/served-bus.service", &unit("")),
        ("usr/lib/sysusers.d/served.conf", "u served -\n"),
        (
            "usr/lib/tmpfiles.d/served.conf",
            &format!("d {eprefix}/var/lib/served 0750 served served\nd /run/served/door 0711\n"),
        ),
        ("usr/lib/sysctl.d/served.conf", "net.ipv4.ip_default_ttl = 77\n"),
        ("usr/lib/udev/rules.d/60-served.rules", "KERNEL==\"served\", RUN+=\"/usr/bin/program\"\n"),
        ("usr/share/dbus-1/system.d/served.conf", policy),
        (
            "usr/share/dbus-1/system-services/org.served.service",
            "[D-BUS Service]\nName=org.served\nExec=/usr/bin/program\nUser=root\n\
             SystemdService=served-bus.service\n",
        ),
    ] {
        served.file(path, text);
    }
    let extensions = debian.root().join("var/lib/extensions");
    let options = ["--format", "directory", "--no-reports", "--name", "served"];
    let options = [&options[..], &["--start", "served.service"]].concat();
    served.pack(extensions.to_str().unwrap(), &options);
    let wants = debian.root().join("etc/systemd/system/sysinit.target.wants");
    fs_err::create_dir_all(&wants).unwrap();
    let unit = "/usr/lib/systemd/system/systemd-sysext.service";
    fs_err::os::unix::fs::symlink(unit, wants.join("systemd-sysext.service")).unwrap();
}

/// Fails unless `log` tells that the target has read all of the extension's files at boot.
fn assert_served(log: &str) {
    let lines: Vec<&str> = log.split("\ncase ").next().unwrap().lines().collect();
    let count = |wanted: &str| lines.iter().filter(|line| line.starts_with(wanted)).count();
    assert_eq!(count("active"), 3, "{log}");
    let directories = lines.iter().filter(|line| line.starts_with('d'));
    let directories: Vec<String> = directories
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[2], words.last().unwrap())
        })
        .collect();
    assert_eq!(
        directories,
        ["drwx--x--x root /run/served/door", "drwxr-x--- served /usr/local/served/var/lib/served/"],
        "{log}"
    );
    assert_eq!(count("ttl 77"), 1, "{log}");
    assert_eq!((count("  Success: 1"), count("  Fail:    0")), (1, 1), "{log}");
    assert_eq!(count("org.served "), 1, "{log}");
}

/// Boots `suite` and attaches `eprefix` in every format; systemd there has to be `version`. The
/// packages `more` are for an extension that is attached at boot.
fn attaches(suite: &str, more: &str, version: std::ops::Range<u32>, eprefix: &'static str) {
    let small = extension(eprefix);
    let debian = Debian::new(suite, more);
    if !more.is_empty() {
        serves(&debian);
    }
    let cases = debian.root().join("report/cases");
    fs_err::create_dir_all(&cases).unwrap();
    let units = small.beside("units");
    let options = ["--mangle", units.to_str().unwrap(), "--release", "EXTENSION_RELOAD_MANAGER=1"];
    for format in FORMATS {
        let output = cases.join(format.replace(':', "-"));
        let more = [&["--format", format, "--no-reports"], &options[..]].concat();
        small.pack(output.to_str().unwrap(), &more);
    }
    debian.write("report/eprefix", format!("eprefix={eprefix}\n"));
    debian.reports(SCRIPT, "After=multi-user.target\nRequires=multi-user.target", "");
    boot(&debian.root());
    let log = fs_err::read_to_string(debian.root().join("report/log")).unwrap_or_default();
    let number = log.split_whitespace().nth(1).and_then(|number| number.parse::<u32>().ok());
    assert!(number.is_some_and(|number| version.contains(&number)), "{log}");
    if !more.is_empty() {
        assert_served(&log);
    }
    let started = if number.unwrap() >= 255 { "unit yes" } else { "unit reload" };
    let parts: Vec<&str> = log.split("\ncase ").skip(1).collect();
    assert_eq!(parts.len(), FORMATS.len(), "{log}");
    let hierarchy = if eprefix.starts_with("/opt") { "/opt" } else { "/usr" };
    for part in parts {
        let has = |line: &str| part.lines().any(|there| there == line);
        let attached = part.lines().any(|line| {
            let mut words = line.split_whitespace();
            (words.next(), words.next()) == (Some(hierarchy), Some("small"))
        });
        assert!(attached && has("status 42") && has(started) && has("detached"), "{log}");
    }
    assert!(log.ends_with("end\n"), "{log}");
}

fn boot(root: &Path) {
    let arguments = ["--mount", "--propagation", "private", "sh", "-c", BOOT, "boot"];
    let limit = LIMIT.as_secs().to_string();
    stdout_of("unshare", [&arguments[..], &[root.to_str().unwrap(), &limit]].concat());
}

#[test]
fn debian_12_attaches_every_format() {
    attaches("bookworm", "", 252..253, "/usr/local/small");
}

#[test]
fn debian_13_attaches_every_format() {
    attaches("trixie", "dbus,udev", 257..258, "/opt/small");
}

#[test]
fn debian_14_attaches_every_format() {
    attaches("forky", "", 258..1000, "/usr/local/small");
}
