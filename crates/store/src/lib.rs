//! Stores for [Tidegate](tidegate) that outlive the process.
//!
//! [`Embedded`] keeps settings in one file, on a database within the process.
//!
//! ```no_run
//! use tidegate::Gate;
//! use tidegate_store::{Embedded, EmbeddedOptions, OpenError};
//!
//! # fn run() -> Result<(), OpenError> {
//! let store = Embedded::open("/var/lib/tidegate/settings.db", EmbeddedOptions::default())?;
//! let gate = Gate::builder().store(store);
//! # Ok(())
//! # }
//! ```

/// The examples of `docs/stores.md` compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/stores.md")]
struct Stores;

mod embedded;

pub use embedded::{Embedded, EmbeddedOptions, OpenError};

#[cfg(test)]
mod tests;
