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

/// Boots `suite` and attaches `eprefix` in every format; systemd there has to be `version`.
fn attaches(suite: &str, version: std::ops::Range<u32>, eprefix: &'static str) {
    let small = extension(eprefix);
    let debian = Debian::new(suite, "");
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
    attaches("bookworm", 252..253, "/usr/local/small");
}

#[test]
fn debian_13_attaches_every_format() {
    attaches("trixie", 257..258, "/opt/small");
}

#[test]
fn debian_14_attaches_every_format() {
    attaches("forky", 258..1000, "/usr/local/small");
}
