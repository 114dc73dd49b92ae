//! Names of rules in options, parsed into the rules that exist.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

use crate::check::{self, Rule};
use crate::sysext::target::TargetRule;

/// Name of a rule of `fprefix check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckRuleName(pub &'static Rule);

impl FromStr for CheckRuleName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check::parse_rule(text).map(Self)
    }
}

/// Returns the names of all rules of `fprefix check`.
pub(crate) fn check_rule_names() -> Vec<&'static str> {
    check::rules().iter().map(|rule| rule.id).collect()
}

/// Returns the names of all rules that can be waived when an extension is packed.
pub(crate) fn waived_rule_names() -> Vec<&'static str> {
    check_rule_names().into_iter().chain(TargetRule::names()).collect()
}

/// Rule whose findings do not keep an extension from being packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaivedRule {
    /// Rule of `fprefix check`.
    Check(&'static Rule),
    /// Rule about attaching to a target.
    Target(TargetRule),
}

impl FromStr for WaivedRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(rule) = TargetRule::find(text) {
            return Ok(Self::Target(rule));
        }
        if let Ok(rule) = check::parse_rule(text) {
            return Ok(Self::Check(rule));
        }
        let checks = check_rule_names().join(", ");
        let target = TargetRule::names().collect::<Vec<_>>().join(", ");
        bail!("there is no rule {text:?}; about attaching there are {target}; about files {checks}")
    }
}

impl fmt::Display for WaivedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check(rule) => rule.id,
            Self::Target(rule) => rule.name(),
        })
    }
}
