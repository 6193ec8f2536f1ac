//! When and how fast.
