//! Text couriers.
