//! The kernels that this project is for, one folder per operation.
//!
//! Each folder holds the contract and the dispatch (`mod.rs`), plain loops (`reference.rs`), the variants by
//! instruction set, and one conformance suite (`tests.rs`) that runs every line of the `VARIANTS` table
//! ([`registry`]). `SCALPEL_KERNEL=<name>` forces a variant. [`convolution`] has no variants of its own: it is
//! one of the products on operands that lie otherwise ([`layout`]). What the products of sparse weights share is
//! [`sparse_product`]; how a tile of Y is found in X and written to its place is `tile`.
//!
//! On GPUs ([`gpu`]) a kernel is an entry point in `cuda/<op>.cu` and one in `shaders/<op>.wgsl`, with one
//! host side for both in the operation's `gpu.rs`, which has a table of variants of its own. What lies
//! between products there is [`pool_eltwise`].

mod aligned;
pub mod convolution;
pub mod csr_spmm;
pub mod gpu;
pub mod group_spmm;
pub mod layout;
pub mod library_gemm;
pub mod masked_dense;
mod parallel;
pub mod pool_eltwise;
#[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
mod programs;
pub mod registry;
mod simd;
pub mod sparse_product;
mod sparse_variant;
mod tile;
pub mod transpose;
pub mod upright_spmm;

use std::ops::Range;

pub use self::sparse_variant::{GpuSparseVariant, SparseVariant};
use crate::error::{Error, Result};

pub(crate) use self::aligned::Aligned;
#[cfg(test)]
pub(crate) use self::parallel::task_count;
pub(crate) use self::parallel::{
    runs_parallel, serial, threads, try_parallel_for_with, with_spinning_workers,
};

/// A bias of `rows` entries, zeros where there is none.
fn bias(operation: &str, bias: Option<&[f32]>, rows: usize) -> Result<Vec<f32>> {
    match bias {
        None => Ok(vec![0.0; rows]),
        Some(bias) => {
            Error::check_length(operation, "a bias", rows, bias.len())?;
            Ok(bias.to_vec())
        }
    }
}

/// A product Y = act(W X + b) packed for this processor, on operands that lie anywhere.
pub trait PackedProduct: Send + Sync + std::fmt::Debug {
    /// The variant that it was packed for.
    fn name(&self) -> &'static str;

    /// The variant, and the library that computes it where there is one.
    fn label(&self) -> String {
        self.name().to_owned()
    }

    /// Computes `n` columns of Y. What Y held at its places is overwritten.
    ///
    /// # Errors
    /// Layouts that leave their slices or write a place twice; columns that the variant does not take.
    fn run_at(&self, x: layout::Input<'_>, n: usize, y: layout::Output<'_>) -> Result<()>;
}

/// Refuses operands of other lengths than plain `[inner, n]` and `[rows, n]`.
fn check_plain(
    operation: &str,
    [rows, inner]: [usize; 2],
    n: usize,
    x: &[f32],
    y: &[f32],
) -> Result<()> {
    // What memory cannot hold, no slice has.
    let floats = |rows: usize| rows.saturating_mul(n);
    Error::check_length(operation, "x", floats(inner), x.len())?;
    Error::check_length(operation, "y", floats(rows), y.len())
}

/// Rows cut into `count` ranges of about equal work, each with its part of `out`, which has `each` values
/// a row. `places` says where each row's work starts, and where the last one's ends.
fn balanced_ranges<'a, T>(
    places: &[usize],
    count: usize,
    each: usize,
    out: &'a mut [T],
) -> Vec<(Range<usize>, &'a mut [T])> {
    let rows = places.len() - 1;
    let (mut ranges, mut rest, mut first) = (Vec::with_capacity(count), out, 0);
    for index in 1..=count {
        let share = places[rows] * index / count;
        let end = places.partition_point(|&place| place < share).clamp(first, rows);
        let end = if index == count { rows } else { end };
        // The last row may end before the next one would begin.
        let (own, remaining) = rest.split_at_mut(((end - first) * each).min(rest.len()));
        ranges.push((first..end, own));
        (rest, first) = (remaining, end);
    }
    ranges
}

/// `value`, or 0 in place of a negative one if `relu`; NaN stays NaN.
#[inline(always)]
fn activate(value: f32, relu: bool) -> f32 {
    if relu && value < 0.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_balanced_by_work_and_not_of_rows() {
        let mut out = [0; 10];
        // One row of 90, four of 10.
        let found = balanced_ranges(&[0, 90, 100, 110, 120, 130], 2, 2, &mut out);
        let found: Vec<_> = found.into_iter().map(|(range, out)| (range, out.len())).collect();
        assert_eq!(found, [(0..1, 2), (1..5, 8)]);
        for count in 1..5 {
            let mut out = [0; 3];
            let ranges = balanced_ranges(&[0, 0, 0, 0], count, 1, &mut out);
            assert_eq!(ranges.iter().map(|(range, _)| range.len()).sum::<usize>(), 3);
        }
        assert_eq!(balanced_ranges::<u8>(&[0], 3, 1, &mut []).len(), 3);
    }
}
