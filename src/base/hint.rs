//! Hints: advice in an error, apart from its cause.
//!
//! The text of an error is the cause. A hint follows in a line of its own, as in `"CAUSE\nhint:
//! ADVICE"`. An error that is the cause of another one keeps its hints.

use anyhow::Error;

/// Beginning of a hint, behind the text of its error.
const HINT: &str = "\nhint: ";

/// Renders an error for people: all causes in one line, then each hint in a line of its own.
pub(crate) fn render_error(error: &Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut hints = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
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
}
