//! Text content.
