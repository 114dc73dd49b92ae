//! Strict templates: an unknown name is an error. Each kind of file has its own quoting filter, so
//! that no value can change the meaning of the text around it.

use anyhow::{Context, Result};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use crate::base::command;
use crate::base::data::{self, Folder};

/// Renders the template at `path` below `folder` with `values`.
pub fn render(folder: Folder, path: &str, values: impl Serialize) -> Result<String> {
    let text = data::text(folder, path)?;
    environment()
        .render_named_str(path, &text, values)
        .with_context(|| format!("could not render the template {path}"))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("sh", |text: &str| command::quote(text));
    environment.add_filter("conf", conf);
    environment.add_filter("line", line);
    environment
}

/// Quotes a value for make.conf, which Portage reads like a shell: in double quotes.
fn conf(text: &str) -> Result<String, Error> {
    let text = line(text)?;
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}

/// Checks a value for a format without quoting, in which the end of the line ends the value
/// (repos.conf, the files of a profile).
fn line(text: &str) -> Result<String, Error> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{text:?} cannot be written: it has a line break"),
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_quotes() {
        assert_eq!(conf(r#"a "b" $c \ `d`"#).unwrap(), r#""a \"b\" \$c \\ \`d\`""#);
        assert!(conf("a\nb").is_err());
    }

    #[test]
    fn unknown_names_are_errors() {
        let environment = environment();
        assert!(environment.render_str("{{ nothing }}", ()).is_err());
    }
}
