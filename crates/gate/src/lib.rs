//! Tidegate as a library.

pub mod bus;
