//! Mail couriers.
