//! Whatever a script or a configuration file holds, rewriting it ends in an answer.
#![no_main]

use std::path::Path;

use fprefix::relocate::{RelocateOptions, SearchTag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let request = RelocateOptions {
        // The root directory has a shell for every script, and nothing in it is written to.
        tree: "/".into(),
        under: None,
        eprefix: "/usr".parse().unwrap(),
        tag: SearchTag::default(),
        relative: false,
        only: Vec::new(),
    };
    for path in ["/usr/bin/a-config", "/usr/lib/pkgconfig/a.pc", "/usr/bin/a"] {
        if let Some(new) = request.rewrite_text(Path::new(path), text) {
            assert!(new.len() <= 2 * text.len() + 4_096);
        }
    }
});
