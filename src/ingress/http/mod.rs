//! HTTP ingress.
