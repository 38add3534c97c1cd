//! The stored points of the break-even sweep.

use serde::{Deserialize, Serialize};

/// One product, ours beside a library's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakevenPoint {
    /// Our variant.
    pub kernel: String,
    /// `MxK`.
    pub shape: String,
    /// Rows of the weights.
    pub m: usize,
    /// Columns of the weights.
    pub k: usize,
    /// Columns of the activations.
    pub n: usize,
    /// Weights in a group.
    pub group_width: usize,
    /// The share of weights that is stored.
    pub density: f64,
    /// The share of groups that was asked for.
    pub asked_density: f64,
    /// Threads of every contestant.
    pub threads: usize,
    /// Useful GFLOP/s of ours: 2 nnz N over the time.
    pub gflops: f64,
    /// GFLOP/s of the library's dense product: 2 M K N over the time.
    pub dense_gflops: f64,
    /// Useful GFLOP/s of the library's CSR product.
    pub csr_gflops: f64,
    /// The library, for both.
    pub dense_library: String,
}

impl BreakevenPoint {
    /// How many times faster than the dense product.
    pub fn over_dense(&self) -> f64 {
        self.gflops / self.dense_gflops / self.density
    }

    /// How many times faster than the CSR product.
    pub fn over_csr(&self) -> f64 {
        self.gflops / self.csr_gflops
    }
}
