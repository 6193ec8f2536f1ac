//! Embedded test ends.
