//! Joining queue to couriers.
