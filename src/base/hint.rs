//! Hints: advice in an error, apart from its cause.
//!
//! The text of an error is the cause. A hint follows in a line of its own, as in `"CAUSE\nhint:
//! ADVICE"`. An error that is the cause of another one keeps its hints.

use anyhow::Error;

use crate::base::escape::Escape;

/// Beginning of a hint, behind the text of its error.
const HINT: &str = "\nhint: ";

/// Renders an error for people: all causes in one line, then each hint in a line of its own.
pub(crate) fn render_error(error: &Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut hints = String::new();
    for cause in error.chain() {
        let text = describe_cause(cause);
        match text.split_once(HINT) {
            Some((cause, hint)) => {
                add_cause(&mut causes, cause.to_owned());
                hints = [&hints, HINT, hint].concat();
            }
            None => add_cause(&mut causes, text),
        }
    }
    causes.join(": ") + &hints
}

/// Adds a cause, unless one before has its text already: errors of some libraries have their own
/// cause in their text. A cause that begins with the text of the one before replaces it.
fn add_cause(causes: &mut Vec<String>, cause: String) {
    let says = |before: &String| {
        before.strip_suffix(&cause).is_some_and(|rest| rest.is_empty() || rest.ends_with(": "))
            || before
                .strip_suffix(')')
                .and_then(|before| before.strip_suffix(&cause))
                .is_some_and(|rest| rest.ends_with('('))
    };
    if causes.iter().any(says) {
        return;
    }
    let begins = |before: &String| {
        cause.strip_prefix(before.as_str()).is_some_and(|rest| rest.starts_with(": "))
    };
    if causes.last().is_some_and(begins) {
        causes.pop();
    }
    causes.push(cause);
}

/// Renders an error as a part of another text: all causes, each with its hints.
pub(crate) fn join_causes(error: &Error) -> String {
    let mut causes = Vec::new();
    for cause in error.chain() {
        add_cause(&mut causes, describe_cause(cause));
    }
    causes.join(": ")
}

/// Returns the text of a cause. Errors of the system name paths as they are (fs-err, walkdir), and
/// are one line.
fn describe_cause(cause: &(dyn std::error::Error + 'static)) -> String {
    let text = cause.to_string();
    if cause.is::<std::io::Error>() || cause.is::<walkdir::Error>() {
        return text.escaped().to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn hints_follow_all_causes() {
        let error = anyhow!("it is not there\nhint: make it\nhint: or name another");
        let error = error.context("could not read x").context("could not pack\nhint: try again");
        assert_eq!(
            render_error(&error),
            "could not pack: could not read x: it is not there\n\
             hint: try again\nhint: make it\nhint: or name another"
        );
        assert_eq!(render_error(&anyhow!("a\nb")), "a\nb");
    }

    #[test]
    fn each_reason_is_said_once() {
        let chain = |causes: &[&str]| {
            let (last, others) = causes.split_last().unwrap();
            let error = others
                .iter()
                .rev()
                .fold(anyhow!("{last}"), |error, cause| error.context((*cause).to_owned()));
            assert_eq!(render_error(&error), join_causes(&error));
            render_error(&error)
        };
        for (causes, text) in [
            (vec!["could not pack", "no room"], "could not pack: no room"),
            (vec!["could not pack: no room", "no room"], "could not pack: no room"),
            (vec!["could not pack (no room)", "no room"], "could not pack (no room)"),
            (vec!["no room", "no room"], "no room"),
            (vec!["could not pack: no room", "x", "no room"], "could not pack: no room: x"),
            (vec!["could not pack", "could not pack: no room"], "could not pack: no room"),
            (vec!["there is a room", "room"], "there is a room: room"),
            (vec!["could not pack", "could not pack x"], "could not pack: could not pack x"),
        ] {
            assert_eq!(chain(&causes), text);
        }
        let missing = walkdir::WalkDir::new("/nowhere").into_iter().next().unwrap().unwrap_err();
        let text = render_error(&Error::new(missing).context("could not pack"));
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
    }

    #[test]
    fn a_path_in_an_error_of_the_system_makes_no_line() {
        let error = fs_err::read("/none\nhint: rm \x1b[31m").unwrap_err();
        let text = render_error(&Error::new(error).context("could not pack"));
        let path = "`/none\\nhint: rm \\x1b[31m`";
        assert!(text.starts_with("could not pack: failed to open file"), "{text}");
        assert!(text.contains(path) && !text.contains('\n'), "{text}");
    }
}
