//! SIMD-aware pruning turned by 90 degrees: weights live and die in groups of one column and `height` rows, so
//! that of the nodes of a strip all read the same inputs, and a kernel keeps the strip's sums in registers
//! ([`crate::kernels::upright_spmm`]).
//!
//! Each column of a layer's weights `[outputs, inputs * kernel * kernel]` is cut from its top into groups of
//! `height`. A group whose root mean square is below the threshold is removed whole. The rows that are left over
//! at the bottom, where the height does not divide their number, stay, as [`simd`]'s partial groups do, unless a
//! [`Grouping`] says that they are groups, too.

use std::ops::Range;

use ndarray::{ArrayView2, s};

use super::{WeightMask, finite, random, simd};
use crate::error::Result;

/// The weights that stay when upright groups of `height` with a root mean square below `threshold` go.
///
/// # Errors
/// A height of 0, a threshold that is not a positive number, weights that are not finite.
pub fn mask(weights: ArrayView2<'_, f32>, height: usize, threshold: f64) -> Result<WeightMask> {
    finite("upright pruning", weights)?;
    Ok(turned(simd::mask(weights.t(), height, threshold)?))
}

/// How a matrix is cut into the upright groups that a criterion may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Weights in a group.
    pub height: usize,
    /// Whether the rows left over at the bottom are groups, too, of fewer weights.
    pub partial: bool,
}

impl Grouping {
    /// The strips of rows of a matrix that these groups are of.
    fn strips(self, rows: usize) -> impl Iterator<Item = Range<usize>> {
        let end = if self.partial { rows } else { rows / self.height.max(1) * self.height };
        (0..end).step_by(self.height.max(1)).map(move |first| first..rows.min(first + self.height))
    }

    /// The root mean square of every group, and of how many weights it is.
    pub fn root_mean_squares(self, weights: ArrayView2<'_, f32>) -> Vec<(f64, usize)> {
        let of = |rows: Range<usize>| {
            let (strip, count) = (weights.slice(s![rows.clone(), ..]), rows.len());
            let columns: Vec<f64> =
                strip.columns().into_iter().map(simd::root_mean_square).collect();
            columns.into_iter().map(move |rms| (rms, count))
        };
        self.strips(weights.nrows()).flat_map(of).collect()
    }

    /// The weights that stay when `keep` decides on each group by its root mean square.
    ///
    /// # Errors
    /// A height of 0, weights that are not finite.
    pub fn mask_where(
        self,
        weights: ArrayView2<'_, f32>,
        keep: impl Fn(f64) -> bool,
    ) -> Result<WeightMask> {
        finite("upright pruning", weights)?;
        simd::check_width(self.height)?;
        let mut mask = WeightMask::from_elem(weights.dim(), true);
        for rows in self.strips(weights.nrows()) {
            let strip = weights.slice(s![rows.clone(), ..]);
            for (column, group) in strip.columns().into_iter().enumerate() {
                let kept = keep(simd::root_mean_square(group));
                mask.slice_mut(s![rows.clone(), column]).fill(kept);
            }
        }
        Ok(mask)
    }
}

/// A mask over `[rows, columns]` that removes the given fraction of the upright groups of `height` weights, as
/// [`random::groups`] removes others.
///
/// # Errors
/// A height of 0, a fraction outside 0 to 1.
pub fn random_mask(
    (rows, columns): (usize, usize),
    height: usize,
    remove: f64,
    seed: u64,
) -> Result<WeightMask> {
    Ok(turned(random::groups((columns, rows), height, remove, seed)?))
}

fn turned(mask: WeightMask) -> WeightMask {
    mask.reversed_axes().as_standard_layout().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, arr2};
    use proptest::prelude::*;

    #[test]
    fn a_group_is_of_one_column_and_the_last_rows_stay() {
        let weights = arr2(&[[0.5, 0.1], [0.5, 0.2], [0.1, 0.5], [0.1, 0.5], [0.0, 0.0]]);
        let mask = mask(weights.view(), 2, 0.4).unwrap();
        let [x, o] = [true, false];
        assert_eq!(mask, arr2(&[[x, o], [x, o], [o, x], [o, x], [x, x]]));
        assert!(mask.is_standard_layout());
    }

    proptest! {
        #[test]
        fn it_is_what_the_papers_criterion_does_to_the_transposed_matrix(
            rows in 0..30_usize, columns in 0..6_usize, height in 1..9_usize,
            threshold in 0.01..0.3_f64, seed in any::<u64>(),
        ) {
            use rand::RngExt;
            let mut rng = crate::seed::stream(seed, "test", &[]);
            let weights =
                Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-0.2..0.2_f32));
            let upright = mask(weights.view(), height, threshold).unwrap();
            prop_assert_eq!(upright.t(), simd::mask(weights.t(), height, threshold).unwrap());
        }
    }

    #[test]
    fn what_cannot_be_pruned_is_refused_by_its_place() {
        let mut weights = Array2::<f32>::zeros((8, 2));
        assert!(mask(weights.view(), 0, 0.1).is_err());
        assert!(mask(weights.view(), 8, 0.0).is_err());
        weights[[3, 1]] = f32::NAN;
        let error = mask(weights.view(), 8, 0.1).unwrap_err().to_string();
        assert!(error.contains("upright") && error.contains("row 3, column 1"), "{error}");
    }

    #[test]
    fn random_groups_are_as_many_as_asked_for() {
        let mask = random_mask((17, 10), 8, 0.5, 1).unwrap();
        assert_eq!(mask.dim(), (17, 10));
        assert_eq!(mask.iter().filter(|&&kept| kept).count(), 10 + 8 * 10);
    }
}
