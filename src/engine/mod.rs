//! Running whole networks.

pub mod on_gpu;
pub mod reference;
