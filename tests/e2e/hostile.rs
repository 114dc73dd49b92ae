//! Programs that were really built, on a target where everything is wrong.

use crate::harness::hostile::Hostile;
use crate::prefix::{EPREFIX, eroot, own};

#[test]
fn programs_take_nothing_from_a_hostile_target() {
    let prefix = own();
    prefix.fprefix(&["emerge", "--noreplace", "net-misc/socat"]).said().succeeds();
    let hostile = Hostile::new(EPREFIX);
    let eroot = eroot(&prefix.r#final);
    for (words, says) in [
        (&["jq", "--null-input", "\"é\" | ascii_downcase"][..], "\"é\"\n"),
        (&["socat", "-u", "OPEN:/etc/hosts", "STDOUT"], "192.0.2.7 seven.example\n"),
        (&["getent", "passwd", "nobody"], "nobody:x:65534:65534::/:/bin/false\n"),
        (&["getent", "ahosts", "seven.example"], "192.0.2.7       STREAM seven.example\n"),
        (&["iconv", "-f", "UTF-8", "-t", "UTF-16", "/etc/passwd"], "n\0o\0b\0o\0d\0y\0"),
        (&["locale", "charmap"], "UTF-8\n"),
    ] {
        let program = format!("{EPREFIX}/usr/bin/{}", words[0]);
        let words = [&[program.as_str()], &words[1..]].concat();
        let output = hostile.run(&eroot, EPREFIX, &words);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(says), "{words:?}: {output:?}");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}
