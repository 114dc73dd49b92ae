//! Commands of openssl.

use anyhow::Result;

use crate::base::command::Command;
use crate::host::tools;

/// Variables with which the caller sets the module and the tokens.
const PASSED_ON: &[&str] = &[
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "PKCS11_MODULE_PATH",
    "PKCS11_PROVIDER_MODULE",
    "SOFTHSM2_CONF",
];

/// Makes an openssl command, for keys in files and in tokens.
pub(crate) fn openssl(purpose: &str) -> Result<Command> {
    let command = tools::OPENSSL.command(purpose)?;
    Ok(PASSED_ON.iter().fold(command, |command, name| command.pass(name)))
}
