//! Files are read through `base::input`: what somebody else put at a path may be a pipe, a device or
//! a hole, and a plain call waits for it or reads it without end.

use regex::Regex;

/// Files that open files in their own way, with the reason.
const OWN: &[(&str, &str)] = &[
    ("src/base/input.rs", "it is the way"),
    ("src/base/lock.rs", "it opens a lock to write to it, and checks what it opened"),
    ("src/cli/book.rs", "it is a test of the project's own pages"),
    ("src/elf/", "it is given open files, and knows no paths"),
    ("src/host/disk.rs", "it reads the log of the kernel, a device that it does not wait for"),
    ("src/imagefmt/btrfs/trees.rs", "it changes an image that was made just now"),
    ("src/imagefmt/ext4/space.rs", "it changes an image that was made just now"),
    ("src/imagefmt/samples.rs", "it makes images for tests"),
];

#[test]
fn files_are_read_within_limits() {
    let plain = Regex::new(
        r"fs_err::(?:read|read_to_string|copy)\(|\bFile::open\(|\.read\(true\)|load_from_path\(",
    )
    .unwrap();
    let (mut found, mut count) = (Vec::new(), 0);
    for entry in walkdir::WalkDir::new("src").into_iter().map(Result::unwrap) {
        let path = entry.path().display().to_string();
        if !path.ends_with(".rs") || OWN.iter().any(|(own, _)| path.starts_with(own)) {
            continue;
        }
        let text = fs_err::read_to_string(entry.path()).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        count += code.matches("input::").count();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| plain.is_match(line)) {
            // A new file, and one that is flushed, are not read.
            if !line.contains("create_new(true)") && !line.contains("sync_all") {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(count > 60, "only {count} uses of base::input were found");
    assert!(found.is_empty(), "read these by base::input:\n{}", found.join("\n"));
    for (own, _) in OWN {
        assert!(std::path::Path::new(own).exists(), "{own} is not there any more");
    }
}
