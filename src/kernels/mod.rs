//! The kernels that this project is for, one folder per operation.
//!
//! Each folder holds the contract and the dispatch (`mod.rs`), plain loops (`reference.rs`), the
//! variants by instruction set, and one conformance suite that runs every variant of the `VARIANTS`
//! table. `SCALPEL_KERNEL=<name>` forces a variant.

pub mod convolution;
pub mod group_spmm;
pub mod layout;
pub mod masked_dense;

/// `value`, or 0 in place of a negative one if `relu`; NaN stays NaN.
fn activate(value: f32, relu: bool) -> f32 {
    if relu && value < 0.0 { 0.0 } else { value }
}
