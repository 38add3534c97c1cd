//! SIMD-aware weight pruning (the paper's section 3.2): weights live and die in aligned groups of
//! the SIMD width, so that every group that is left fills a vector register and one index serves
//! the whole group.
//!
//! Each row of a layer's weights `[outputs, inputs * kernel * kernel]` is cut from its start into
//! groups of `width`. A group whose root mean square is below the threshold is removed whole. What
//! is left over at a row's end, where the width does not divide its length, always stays.

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use super::{WeightMask, finite};
use crate::error::{Error, Result};

/// The weights that stay when groups of `width` with a root mean square below `threshold` go.
///
/// # Errors
/// A width of 0, a threshold that is not a positive number, weights that are not finite.
pub fn mask(weights: ArrayView2<'_, f32>, width: usize, threshold: f64) -> Result<WeightMask> {
    check_width(width)?;
    if !(threshold > 0.0 && threshold.is_finite()) {
        let found = threshold.to_string();
        return Err(Error::argument("SIMD-aware pruning", "a threshold above 0", found));
    }
    finite("SIMD-aware pruning", weights)?;
    Ok(mask_by_groups(weights.dim(), width, |row, group| {
        let weights = weights.slice(s![row, group * width..(group + 1) * width]);
        root_mean_square(weights) >= threshold
    }))
}

/// Refuses a group width of 0.
pub(super) fn check_width(width: usize) -> Result<()> {
    if width == 0 {
        return Err(Error::argument("prune by groups", "a group width of at least 1", "0"));
    }
    Ok(())
}

/// A mask over `[rows, columns]` in which `keep(row, group)` decides on each whole group; a partial
/// last group stays.
pub(super) fn mask_by_groups(
    (rows, columns): (usize, usize),
    width: usize,
    mut keep: impl FnMut(usize, usize) -> bool,
) -> WeightMask {
    let mut mask = Array2::from_elem((rows, columns), true);
    for row in 0..rows {
        for group in 0..columns / width {
            if !keep(row, group) {
                mask.slice_mut(s![row, group * width..(group + 1) * width]).fill(false);
            }
        }
    }
    mask
}

pub(super) fn root_mean_square(weights: ArrayView1<'_, f32>) -> f64 {
    let squares: f64 = weights.iter().map(|&weight| f64::from(weight).powi(2)).sum();
    (squares / weights.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::{apply, kept};
    use ndarray::Array;
    use proptest::prelude::*;

    fn weights() -> impl Strategy<Value = Array2<f32>> {
        (0..6_usize, 0..30_usize).prop_flat_map(|(rows, columns)| {
            prop::collection::vec(-0.2..0.2_f32, rows * columns)
                .prop_map(move |values| Array2::from_shape_vec((rows, columns), values).unwrap())
        })
    }

    proptest! {
        #[test]
        fn groups_live_and_die_whole_and_the_partial_one_lives(
            weights in weights(), width in 1..9_usize, threshold in 0.01..0.3_f64,
        ) {
            let mask = mask(weights.view(), width, threshold).unwrap();
            prop_assert_eq!(mask.dim(), weights.dim());
            let whole = weights.ncols() / width * width;
            for (row, kept) in mask.rows().into_iter().enumerate() {
                for group in 0..weights.ncols() / width {
                    let place = s![group * width..(group + 1) * width];
                    let first = kept[group * width];
                    prop_assert!(kept.slice(place).iter().all(|&k| k == first));
                    let rms = root_mean_square(weights.row(row).slice(place));
                    prop_assert_eq!(first, rms >= threshold, "rms {} at {}", rms, threshold);
                }
                prop_assert!(kept.slice(s![whole..]).iter().all(|&k| k));
            }
        }

        #[test]
        fn masks_shrink_from_stage_to_stage(
            weights in weights(), width in 1..9_usize, threshold in 0.01..0.3_f64, step in 0.0..0.1_f64,
            change in 0.5..2.0_f32,
        ) {
            let first = mask(weights.view(), width, threshold).unwrap();
            let mut trained = (weights * change).into_dyn();
            apply("w", &mut trained, &first).unwrap();
            let trained = trained.into_dimensionality::<ndarray::Ix2>().unwrap();
            let second = mask(trained.view(), width, threshold + step).unwrap();
            prop_assert!(first.iter().zip(&second).all(|(&before, &after)| before || !after));
            prop_assert!(kept(&second) <= kept(&first));
        }
    }

    #[test]
    fn a_group_exactly_at_the_threshold_stays() {
        let weights = Array::from_shape_vec((1, 4), vec![0.5, -0.5, 0.25, 0.25]).unwrap();
        let mask = mask(weights.view(), 2, 0.5).unwrap();
        assert_eq!(mask, ndarray::arr2(&[[true, true, false, false]]));
    }

    #[test]
    fn what_cannot_be_pruned_is_refused() {
        let weights = Array2::<f32>::zeros((1, 8));
        assert!(mask(weights.view(), 0, 0.1).unwrap_err().to_string().contains("width"));
        for threshold in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(mask(weights.view(), 8, threshold).is_err(), "{threshold}");
        }
        let mut weights = weights;
        weights[[0, 3]] = f32::NAN;
        let error = mask(weights.view(), 8, 0.1).unwrap_err().to_string();
        assert!(error.contains("row 0, column 3"), "{error}");
    }
}
