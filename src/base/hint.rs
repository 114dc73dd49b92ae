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
                causes.push(cause.to_owned());
                hints = [&hints, HINT, hint].concat();
            }
            None => causes.push(text),
        }
    }
    causes.join(": ") + &hints
}

/// Renders an error as a part of another text: all causes, each with its hints.
pub(crate) fn join_causes(error: &Error) -> String {
    error.chain().map(describe_cause).collect::<Vec<_>>().join(": ")
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
    fn a_path_in_an_error_of_the_system_makes_no_line() {
        let error = fs_err::read("/none\nhint: rm \x1b[31m").unwrap_err();
        let text = render_error(&Error::new(error).context("could not pack"));
        let path = "`/none\\nhint: rm \\x1b[31m`";
        assert!(text.starts_with("could not pack: failed to open file"), "{text}");
        assert!(text.contains(path) && !text.contains('\n'), "{text}");
    }
}
