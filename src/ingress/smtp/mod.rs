//! SMTP ingress.
