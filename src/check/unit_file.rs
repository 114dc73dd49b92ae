//! Unit files (systemd.unit(5), systemd.syntax(7)) and the command lines in them (systemd.service(5)).

use std::path::Path;

/// Characters that may precede a program in a command line (systemd.service(5)).
pub(super) const MARKS: &[char] = &['@', '-', ':', '+', '!', '|'];

/// Assignment in a unit file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnitSetting {
    /// Section of the assignment.
    pub section: String,
    /// Name of the setting.
    pub key: String,
    /// Value of the setting. An empty one resets a list.
    pub value: String,
}

/// Parses the text of a unit file. Lines that are no assignment are skipped, as systemd does.
pub(super) fn parse(text: &str) -> Vec<UnitSetting> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in join_lines(text) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            settings.push(UnitSetting { section: section.clone(), key, value });
        }
    }
    settings
}

/// Returns the lines of a unit file. A backslash at the end of a line continues it, and becomes a
/// space. Comments between such lines are skipped.
fn join_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        begun += line;
        // An escaped backslash continues nothing.
        let backslashes = begun.len() - begun.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            begun.pop();
            begun.push(' ');
        } else {
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines.push(begun);
    lines
}

/// Program of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StartedProgram {
    /// Path or name of the program.
    pub program: String,
    /// True if systemd goes on where the program fails.
    pub may_fail: bool,
}

/// Returns the programs of a command line, which has several commands with a semicolon between
/// them. Returns `None` if systemd does not understand the line.
pub(super) fn list_programs(line: &str) -> Option<Vec<StartedProgram>> {
    let mut programs = Vec::new();
    let mut is_first = true;
    for word in split_words(line)? {
        match word {
            CommandWord::Separator => is_first = true,
            CommandWord::Text(text) if is_first => {
                let program = text.trim_start_matches(MARKS);
                let prefix = text.get(..text.len() - program.len())?;
                // Such a program makes the whole unit invalid, an empty name the line.
                let is_odd = |c: char| c.is_control() || matches!(c, '\\' | '"' | '\'');
                if program.is_empty() || program.contains(is_odd) {
                    return None;
                }
                let may_fail = prefix.contains('-');
                programs.push(StartedProgram { program: program.to_owned(), may_fail });
                is_first = false;
            }
            CommandWord::Text(_) => {}
        }
    }
    Some(programs)
}

/// Part of a command line.
#[derive(Debug, PartialEq, Eq)]
enum CommandWord {
    /// A word without its quotes and escapes.
    Text(String),
    /// A semicolon that stands alone.
    Separator,
}

/// Splits a command line into words (systemd.service(5), "Command lines"; systemd.syntax(7),
/// "Quoting").
fn split_words(line: &str) -> Option<Vec<CommandWord>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (plain, after) = rest.split_at(end);
        match plain {
            ";" => {
                words.push(CommandWord::Separator);
                rest = after;
            }
            "\\;" => {
                words.push(CommandWord::Text(";".to_owned()));
                rest = after;
            }
            _ => {
                let (word, after) = take_word(rest)?;
                words.push(CommandWord::Text(word));
                rest = after;
            }
        }
        rest = rest.trim_start();
    }
    Some(words)
}

/// Takes the first word of `text`. Returns it without quotes and escapes, and what follows it.
fn take_word(text: &str) -> Option<(String, &str)> {
    let mut word = Vec::new();
    let mut quote = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if quote.is_none() && c.is_whitespace() {
            break;
        }
        rest = rest.get(c.len_utf8()..)?;
        if c == '\\' {
            // A backslash that begins no escape stays.
            let (bytes, after) = unescape(rest).unwrap_or((vec![b'\\'], rest));
            word.extend(bytes);
            rest = after;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        } else {
            word.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    if quote.is_some() {
        return None;
    }
    Some((String::from_utf8(word).ok()?, rest))
}

/// Returns the bytes of the escape that `text` begins with, after its backslash, and what follows.
fn unescape(text: &str) -> Option<(Vec<u8>, &str)> {
    let kind = text.chars().next()?;
    let rest = text.get(kind.len_utf8()..)?;
    let number = |text: &str, digits, radix| {
        let number = u32::from_str_radix(text.get(..digits)?, radix).ok()?;
        (number != 0).then_some(number)
    };
    let (character, digits) = match kind {
        'a' => (7, 0),
        'b' => (8, 0),
        'f' => (12, 0),
        'n' => (10, 0),
        'r' => (13, 0),
        't' => (9, 0),
        'v' => (11, 0),
        's' => (32, 0),
        '\\' | '"' | '\'' => (u32::from(kind), 0),
        'u' => (number(rest, 4, 16)?, 4),
        'U' => (number(rest, 8, 16)?, 8),
        // A byte, which may be a part of a character.
        'x' => return Some((vec![u8::try_from(number(rest, 2, 16)?).ok()?], rest.get(2..)?)),
        '0'..='7' => {
            return Some((vec![u8::try_from(number(text, 3, 8)?).ok()?], text.get(3..)?));
        }
        _ => return None,
    };
    let character = char::from_u32(character)?;
    Some((character.to_string().into_bytes(), rest.get(digits..)?))
}

/// Returns `text` with its specifiers replaced (systemd.unit(5), "Specifiers"), for the unit file
/// `name`. Returns `None` if one has a value that only a target knows.
pub(super) fn expand_specifiers(text: &str, name: &str, of_system: bool) -> Option<String> {
    let stem = Path::new(name).file_stem()?.to_str()?;
    let (prefix, instance) = stem.split_once('@').map_or((stem, None), |(prefix, instance)| {
        (prefix, Some(instance).filter(|instance| !instance.is_empty()))
    });
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        expanded += before;
        let specifier = after.chars().next()?;
        rest = after.get(specifier.len_utf8()..)?;
        let is_template = stem.ends_with('@');
        expanded += match specifier {
            '%' => "%",
            'p' => prefix,
            'n' if !is_template => name,
            'N' if !is_template => stem,
            'i' if !is_template => instance.unwrap_or_default(),
            'h' if of_system => "/root",
            't' if of_system => "/run",
            'S' if of_system => "/var/lib",
            'C' if of_system => "/var/cache",
            'L' if of_system => "/var/log",
            'E' if of_system => "/etc",
            'T' if of_system => "/tmp",
            'V' if of_system => "/var/tmp",
            _ => return None,
        };
    }
    Some(expanded + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_systemd_parses() {
        let text = "# ExecStart=/no\n[Unit]\nDescription = a = b \n\n[Service]\n\
                    ExecStart=/bin/a one \\\n  # not this \\\n; nor this\n  two\n\
                    ExecStop=\nnonsense\nExecReload=/bin/c \\\\\nUser=x\nExecStopPost=/bin/d \\";
        let settings = parse(text);
        let shown: Vec<_> =
            settings.iter().map(|s| format!("{}/{}/{}", s.section, s.key, s.value)).collect();
        assert_eq!(
            shown,
            [
                "Unit/Description/a = b",
                "Service/ExecStart/one".replace("one", "/bin/a one    two").as_str(),
                "Service/ExecStop/",
                "Service/ExecReload//bin/c \\\\",
                "Service/User/x",
                "Service/ExecStopPost//bin/d",
            ]
        );
    }

    #[test]
    fn lists_programs_of_command_lines() {
        for (line, programs) in [
            ("/bin/a b", Some(vec!["/bin/a"])),
            ("-@/bin/a a -b", Some(vec!["-/bin/a"])),
            ("+!!:/bin/a", Some(vec!["/bin/a"])),
            ("|/bin/a", Some(vec!["/bin/a"])),
            ("\"/bin/a b\" c", Some(vec!["/bin/a b"])),
            ("\"-/bin/a\" c", Some(vec!["-/bin/a"])),
            ("'/bin/a'\"b\"c d", Some(vec!["/bin/abc"])),
            ("/bin/a\\x20b\\sc \\;", Some(vec!["/bin/a b c"])),
            ("/bin/\\303\\274\\u00fc\\U000000fc", Some(vec!["/bin/\u{fc}\u{fc}\u{fc}"])),
            ("/bin/a ; -/bin/b c; d ; /bin/e", Some(vec!["/bin/a", "-/bin/b", "/bin/e"])),
            ("/bin/a \\; /bin/b", Some(vec!["/bin/a"])),
            ("/bin/a ';' /bin/b", Some(vec!["/bin/a"])),
            ("${PROGRAM} a", Some(vec!["${PROGRAM}"])),
            ("", Some(vec![])),
            ("\"/bin/a", None),
            ("/bin/a b\\q c", Some(vec!["/bin/a"])),
            ("/bin/a\\q", None),
            ("/bin/a\\x0", None),
            ("-", None),
        ] {
            let found = list_programs(line).map(|programs| {
                let shown = |one: &StartedProgram| {
                    format!("{}{}", if one.may_fail { "-" } else { "" }, one.program)
                };
                programs.iter().map(shown).collect::<Vec<_>>()
            });
            let expected = programs.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn expands_specifiers_with_known_values() {
        for (text, name, expanded) in [
            ("/opt/100%%/%p", "a.service", Some("/opt/100%/a")),
            ("/opt/%n/%N/%i", "a@b.service", Some("/opt/a@b.service/a@b/b")),
            ("/opt/%p", "a@.service", Some("/opt/a")),
            ("/opt/%i", "a@.service", None),
            ("%h/bin", "a.service", Some("/root/bin")),
            ("/opt/%b", "a.service", None),
            ("/opt/%", "a.service", None),
        ] {
            assert_eq!(expand_specifiers(text, name, true).as_deref(), expanded, "{text}");
        }
        assert_eq!(expand_specifiers("%h/bin", "a.service", false), None);
    }
}
