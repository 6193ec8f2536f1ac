//! Listening, connecting, TLS.
