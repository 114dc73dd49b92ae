//! Sentences: how comments begin, and words that a stranger stumbles over.

use regex::Regex;

#[test]
fn doc_comments_begin_with_the_thing_or_the_act() {
    assert_nothing_matches(r"^\s*//[/!] (?:What|Where|Whether|How) ");
}

#[test]
fn messages_and_comments_use_plain_words() {
    assert_nothing_matches(r"\b(?:can not|is told of|is not to be had)\b");
}

/// Fails with the lines of all files below `src/` that match `pattern`.
#[track_caller]
fn assert_nothing_matches(pattern: &str) {
    let pattern = Regex::new(pattern).unwrap();
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new("src").into_iter().map(Result::unwrap) {
        if !entry.file_type().is_file() {
            continue;
        }
        let text = fs_err::read_to_string(entry.path()).unwrap();
        let lines = text.lines().enumerate().filter(|(_, line)| pattern.is_match(line));
        let place = |number| format!("{}:{}", entry.path().display(), number + 1);
        found.extend(lines.map(|(number, line)| format!("{}: {}", place(number), line.trim())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
