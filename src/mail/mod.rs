//! Mail content.
