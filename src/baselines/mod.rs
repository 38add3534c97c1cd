//! What a user would take instead of our kernels.

#[cfg(feature = "torch")]
pub mod torch;
