//! Running whole networks.

pub mod reference;
