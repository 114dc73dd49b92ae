//! Tests wait for events: no test sleeps or measures time.

/// Place where waiting is written once.
const WAITING: &str = "tests/harness/wait.rs";

#[test]
fn no_test_sleeps_or_measures_time() {
    let clock = regex::Regex::new(r"thread::sleep|Instant::now|\.elapsed\(|\bsleep [0-9]").unwrap();
    let mut found = Vec::new();
    let mut count = 0;
    for entry in walkdir::WalkDir::new("tests").into_iter().map(Result::unwrap) {
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        if !["rs", "ebuild", "sh"].iter().any(|known| extension == *known)
            || path.ends_with(WAITING)
            || path.ends_with("tests/house/time.rs")
        {
            continue;
        }
        count += 1;
        let text = fs_err::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| clock.is_match(line)) {
            found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    assert!(count > 90, "only {count} files were found");
    assert!(found.is_empty(), "wait for an event ({WAITING}):\n{}", found.join("\n"));
}
