//! Messages to the user during a run: bars on a terminal, plain lines in a log, nothing when quiet.
//! All of them are written to stderr; stdout is reserved for results.
//!
//! Whatever is printed passes through here, and nothing but lines, tabs and our own colours reaches
//! a terminal: what else would act on it is shown instead ([`visible`]).

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::base::escape::{is_hidden, visible};
use crate::base::level::Level;
use crate::base::secret::hide_pins;

/// Amount of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Steps and warnings.
    #[default]
    Normal,
    /// Also the commands that are run.
    Verbose,
}

/// The choice when colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` or `TERM=dumb` says no; elsewhere if `CLICOLOR_FORCE` says so.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Reports progress, warnings and errors to the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    verbosity: Verbosity,
    terminal: bool,
    colour: bool,
}

impl Reporter {
    /// Makes a reporter for the stderr of this process.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn new(verbosity: Verbosity, colours: ColourChoice) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        // A dumb terminal moves no cursor and has no colours (terminfo(5)).
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !is_dumb;
        let forced = is_set("CLICOLOR_FORCE")
            && std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let colour = match colours {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => !is_set("NO_COLOR") && (terminal || forced),
        };
        Self { verbosity, terminal, colour }
    }

    /// Returns whether colours are used.
    pub fn has_colours(&self) -> bool {
        self.colour
    }

    /// Returns whether nothing but errors is shown.
    pub fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    /// Returns whether stderr is a terminal on which bars may be drawn.
    pub fn draws(&self) -> bool {
        self.terminal && self.verbosity > Verbosity::Quiet
    }

    /// Returns whether stdout is a terminal as well.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub(crate) fn draws_beside_answers(&self) -> bool {
        self.draws() && std::io::stdout().is_terminal()
    }

    /// Returns whether details are shown.
    pub fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Reports the start of a step.
    pub fn step(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.line("32", ">>>", text);
        }
    }

    /// Reports a detail, which is shown only in verbose mode.
    pub fn detail(&self, text: &str) {
        if self.is_verbose() {
            write_line(&format!("    {}", visible(text)));
        }
    }

    /// Reports a warning.
    pub fn warn(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.line("33", "warning:", text);
        }
    }

    /// Reports a finding of a rule, and a remedy for it.
    pub(crate) fn finding(&self, level: Level, rule: &str, text: &str, help: &str) {
        if level != Level::Error && self.verbosity == Verbosity::Quiet {
            return;
        }
        let colour = if level == Level::Error { "31" } else { "33" };
        self.line(colour, &format!("{level}[{rule}]:"), text);
        write_line(&format!("help: {}", visible(help)));
    }

    /// Reports an error.
    pub fn error(&self, text: &str) {
        self.line("31", "error:", text);
    }

    /// Shows a spinner on a terminal while something is done; it is hidden elsewhere.
    pub fn spinner(&self) -> ProgressBar {
        if !self.draws() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// Writes a line with the word `start` in front, in a colour if there are any.
    fn line(&self, colour: &str, start: &str, text: &str) {
        let text = hide_pins(text);
        let text = visible(&text);
        if self.colour {
            write_line(&format!("\x1b[{colour}m{start}\x1b[0m {text}"));
        } else {
            write_line(&format!("{start} {text}"));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn write_line(text: &str) {
    // If stderr is closed, there is nowhere to report the failure.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Makes a style of ASCII characters, which every terminal and locale has.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.tick_chars("|/-\\ ").progress_chars("=> ")
}

/// Makes a bar of the spinner `bar`, which shows that `done` of `total` is done.
pub(crate) fn count(bar: &ProgressBar, done: u64, total: u64) {
    if bar.length() != Some(total) {
        bar.set_style(style("[{bar:12}] {pos}/{len} {wide_msg}"));
        bar.set_length(total);
    }
    bar.set_position(done);
}

/// Shows `text` beside the spinner `bar`, in its line.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn show(bar: &ProgressBar, text: &str) {
    bar.set_message(visible(text).replace(['\n', '\t'], " "));
}

/// Writes a result to stdout. It is no error if the reader has closed the pipe.
pub(crate) fn answer(text: &str) -> std::io::Result<()> {
    write_bytes(visible(text).as_bytes())
}

/// Writes a result to stdout as JSON.
///
/// # Errors
///
/// Fails if stdout cannot be written. Names that are no UTF-8 are no reason: values hold them
/// escaped (`base::escape`).
pub(crate) fn answer_json(value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(write_bytes(escape_json(&text).as_bytes())?)
}

/// Writes to stdout what somebody asked for as it is: the output of Portage, or a script of ours.
pub(crate) fn relay(bytes: &[u8]) -> std::io::Result<()> {
    write_bytes(bytes)
}

/// Writes to stderr what a tool printed, where it is no answer.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub(crate) fn relay_progress(bytes: &[u8]) -> std::io::Result<()> {
    std::io::stderr().lock().write_all(bytes)
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn write_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Escapes the characters that JSON allows as they are and that would act on a terminal. Outside of
/// its texts JSON has none of them.
fn escape_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hidden(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_characters_that_act() {
        let value = ["a\u{9b}b\u{7f}\u{1b}", "\u{202e}\u{e0001}\n", "\\x1b gr\u{fc}n"];
        let text = escape_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c != '\n' && is_hidden(c)), "{text:?}");
        assert!(text.contains("gr\u{fc}n"));
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), value);
    }
}
