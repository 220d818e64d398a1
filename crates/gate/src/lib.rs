//! Tidegate
