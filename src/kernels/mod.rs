//! The kernels that this project is for, one folder per operation.
//!
//! Each folder holds the contract and the dispatch (`mod.rs`), plain loops (`reference.rs`), the
//! variants by instruction set, and one conformance suite that runs every variant of the `VARIANTS`
//! table. `SCALPEL_KERNEL=<name>` forces a variant.

pub mod group_spmm;
