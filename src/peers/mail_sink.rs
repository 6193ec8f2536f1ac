//! mail_sink.
