//! The fast way: all of final comes from the binhost, and staging stays without packages.

use anyhow::Result;

use crate::base::lock::Lock;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::vdb;
use crate::prefix::definition::Prefix;
use crate::prefix::setup::{SetupPlan, first_packages};
use crate::prefix::wrappers;

/// A prefix without packages that is being made. It is locked.
pub(crate) struct EmptyPrefix {
    prefix: Prefix,
    wrapper_dir: std::path::PathBuf,
    lock: Lock,
}

impl SetupPlan {
    /// Returns whether all of final may come from a binhost: there is one, and staging has nothing
    /// that final would have to follow.
    ///
    /// # Errors
    ///
    /// Fails if staging cannot be read.
    pub(crate) fn may_use_binhost_alone(&self) -> Result<bool> {
        let staging = self.prefix.layout.vdb(Environment::Staging);
        Ok(self.prefix.definition.binhost.is_some()
            && (self.replace.is_some() || vdb::packages(&staging)?.is_empty()))
    }

    /// Makes the prefix, with Portage's configuration and without packages. The set-up can go on
    /// with [`SetupPlan::apply`].
    ///
    /// # Errors
    ///
    /// Fails if something cannot be written.
    pub(crate) fn apply_without_packages(&mut self, reporter: &Reporter) -> Result<EmptyPrefix> {
        let lock = self.begin(reporter)?;
        if let Some(warning) = self.prefix.warn_of_binhost()? {
            reporter.warn(&warning);
        }
        self.write_files()?;
        // Portage wants a directory for each repository. Packages of the toolchain that the binhost
        // has need no ebuilds.
        self.write_toolchain_repo(&[])?;
        let (prefix, wrapper_dir) = (self.prefix.clone(), self.wrapper_dir.clone());
        Ok(EmptyPrefix { prefix, wrapper_dir, lock })
    }
}

impl EmptyPrefix {
    /// The prefix as it will be.
    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Returns the packages that final starts with.
    ///
    /// # Errors
    ///
    /// Fails if the built-in data cannot be read.
    pub(crate) fn first_packages() -> Result<Vec<String>> {
        first_packages(Environment::Final)
    }

    /// Ends the set-up of the prefix, into whose final packages were installed.
    ///
    /// # Errors
    ///
    /// Fails if the wrappers or the record cannot be written.
    pub(crate) fn complete(mut self) -> Result<Prefix> {
        let definition = &mut self.prefix.definition;
        definition.without_staging = true;
        self.prefix.definition.wrappers = wrappers::write(&self.prefix, &self.wrapper_dir)?;
        self.prefix.definition.complete = true;
        self.prefix.save_after_flush()?;
        drop(self.lock);
        Ok(self.prefix)
    }
}
