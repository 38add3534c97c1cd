//! Traditional magnitude pruning (Han et al., NIPS 2015): the smallest weights go, each on its own.

use ndarray::{Array2, ArrayView2};

use super::{WeightMask, finite, fraction};
use crate::error::Result;

/// The masks that remove, of all layers' weights together, the given fraction with the smallest
/// magnitude, to the nearest whole number of weights. Of equal magnitudes the first go first.
///
/// # Errors
/// A fraction outside 0 to 1, weights that are not finite.
pub fn global(layers: &[ArrayView2<'_, f32>], remove: f64) -> Result<Vec<WeightMask>> {
    fraction("magnitude pruning", remove)?;
    for layer in layers {
        finite("magnitude pruning", *layer)?;
    }
    let mut magnitudes: Vec<f32> =
        layers.iter().flat_map(|weights| weights.iter().map(|weight| weight.abs())).collect();
    let removed = (remove * magnitudes.len() as f64).round() as usize;
    let mut masks: Vec<WeightMask> =
        layers.iter().map(|layer| Array2::from_elem(layer.dim(), true)).collect();
    let Some(last) = removed.checked_sub(1) else { return Ok(masks) };

    // The largest magnitude that goes, and how many of that very magnitude go.
    let (smaller, &mut bound, _) = magnitudes.select_nth_unstable_by(last, f32::total_cmp);
    let mut equal = removed - smaller.iter().filter(|&&magnitude| magnitude < bound).count();
    for (mask, weights) in masks.iter_mut().zip(layers) {
        for (keep, weight) in mask.iter_mut().zip(weights) {
            let magnitude = weight.abs();
            *keep = if magnitude == bound && equal > 0 {
                equal -= 1;
                false
            } else {
                magnitude >= bound
            };
        }
    }
    Ok(masks)
}

/// The mask that removes the given fraction of one layer's weights.
///
/// # Errors
/// As [`global`].
pub fn per_layer(weights: ArrayView2<'_, f32>, remove: f64) -> Result<WeightMask> {
    Ok(global(&[weights], remove)?.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::kept;
    use ndarray::arr2;
    use proptest::prelude::*;

    fn layer() -> impl Strategy<Value = Array2<f32>> {
        (1..8_usize, 1..8_usize).prop_flat_map(|(rows, columns)| {
            prop::collection::vec(-1.0..1.0_f32, rows * columns)
                .prop_map(move |values| Array2::from_shape_vec((rows, columns), values).unwrap())
        })
    }

    proptest! {
        #[test]
        fn the_fraction_is_removed_and_nothing_smaller_is_kept(
            layers in prop::collection::vec(layer(), 1..4), remove in 0.0..=1.0_f64,
        ) {
            let views: Vec<_> = layers.iter().map(|layer| layer.view()).collect();
            let masks = global(&views, remove).unwrap();
            let total: usize = layers.iter().map(|layer| layer.len()).sum();
            let left: usize = masks.iter().map(kept).sum();
            prop_assert_eq!(left, total - (remove * total as f64).round() as usize);

            let magnitudes = |wanted: bool| {
                layers.iter().zip(&masks).flat_map(move |(layer, mask)| {
                    layer.iter().zip(mask).filter(move |&(_, &kept)| kept == wanted).map(|(w, _)| w.abs())
                })
            };
            let largest_removed = magnitudes(false).fold(0.0, f32::max);
            let smallest_kept = magnitudes(true).fold(f32::INFINITY, f32::min);
            prop_assert!(largest_removed <= smallest_kept);
        }

        #[test]
        fn more_removed_leaves_a_smaller_set(layer in layer(), less in 0.0..=1.0_f64, more in 0.0..=1.0_f64) {
            let (less, more) = (less.min(more), less.max(more));
            let (first, second) =
                (per_layer(layer.view(), less).unwrap(), per_layer(layer.view(), more).unwrap());
            prop_assert!(first.iter().zip(&second).all(|(&before, &after)| before || !after));
        }
    }

    #[test]
    fn of_equal_magnitudes_the_first_go_first() {
        let [first, second] = [[[1.0, -0.5], [0.5, 2.0]], [[0.5, 0.1], [-0.5, 0.5]]]
            .map(|rows: [[f32; 2]; 2]| arr2(&rows));
        for (remove, expected) in [
            (0, [[true, true], [true, true], [true, true], [true, true]]),
            (1, [[true, true], [true, true], [true, false], [true, true]]),
            (4, [[true, false], [false, true], [false, false], [true, true]]),
            (6, [[true, false], [false, true], [false, false], [false, false]]),
            (8, [[false; 2]; 4]),
        ] {
            let masks = global(&[first.view(), second.view()], f64::from(remove) / 8.0).unwrap();
            let [a, b, c, d] = expected;
            assert_eq!(masks, [arr2(&[a, b]), arr2(&[c, d])], "{remove}");
        }
        // A matrix that lies transposed is ranked as it reads.
        let turned = arr2(&[[1.0_f32, 1.0], [1.0, 1.0]]);
        let mask = per_layer(turned.t(), 0.5).unwrap();
        assert_eq!(mask, arr2(&[[false, false], [true, true]]));
    }

    #[test]
    fn a_fraction_that_is_none_is_refused() {
        let layer = Array2::<f32>::zeros((2, 2));
        for remove in [-0.1, 1.1, f64::NAN] {
            assert!(per_layer(layer.view(), remove).is_err());
        }
    }
}
