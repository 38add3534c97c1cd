//! Pruning criteria as pure functions from weights to masks, and compaction of what they leave.
//!
//! - [`simd`]: Scalpel's SIMD-aware weight pruning, for hardware with little parallelism.
//! - [`upright`]: the same with groups of one column, which kernels run faster.
//! - [`reorder`]: another order of nodes, in which upright groups lose less.
//! - [`node`]: Scalpel's node pruning, for hardware with much of it.
//! - [`magnitude`]: the traditional criterion, weight by weight.
//! - [`random`]: no criterion at all, the baseline of baselines.
//! - [`whole`]: one criterion on all layers of a file.
//! - [`compact`]: the physically smaller network that computes what a node-masked one does.

pub mod compact;
pub mod magnitude;
pub mod node;
pub mod random;
pub mod reorder;
pub mod simd;
pub mod upright;
pub mod whole;

use ndarray::{Array2, ArrayD, ArrayView2};

use crate::error::{Error, Result};
use crate::network::as_matrix;

/// Which weights of a layer stay, `[rows, columns]`: a row per output, columns as in [`as_matrix`].
pub type WeightMask = Array2<bool>;

/// Sets the weights outside `mask` to 0.
///
/// # Errors
/// A mask of another size.
pub fn apply(name: &str, weights: &mut ArrayD<f32>, mask: &WeightMask) -> Result<()> {
    let (rows, columns) = as_matrix(name, weights)?.dim();
    Error::check_shape(&format!("prune {name}"), "a mask", &[rows, columns], mask.shape())?;
    for (weight, &kept) in weights.iter_mut().zip(mask) {
        if !kept {
            *weight = 0.0;
        }
    }
    Ok(())
}

/// How many weights a mask keeps.
pub fn kept(mask: &WeightMask) -> usize {
    mask.iter().filter(|&&kept| kept).count()
}

/// Refuses weights that are not finite: no criterion can rank them.
fn finite(operation: &str, weights: ArrayView2<'_, f32>) -> Result<()> {
    match weights.indexed_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some(((row, column), value)) => {
            let found = format!("{value} in row {row}, column {column}");
            Err(Error::argument(operation, "finite weights", found))
        }
    }
}

/// Refuses a fraction outside 0 to 1.
fn fraction(operation: &str, fraction: f64) -> Result<()> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(());
    }
    Err(Error::argument(operation, "a fraction between 0 and 1", fraction.to_string()))
}
