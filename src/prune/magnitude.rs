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
    let mut ranked: Vec<(f32, usize, usize)> = layers
        .iter()
        .enumerate()
        .flat_map(|(layer, weights)| {
            weights.iter().enumerate().map(move |(place, weight)| (weight.abs(), layer, place))
        })
        .collect();
    let removed = (remove * ranked.len() as f64).round() as usize;
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));

    let mut masks: Vec<WeightMask> =
        layers.iter().map(|layer| Array2::from_elem(layer.dim(), true)).collect();
    for &(_, layer, place) in &ranked[..removed] {
        let columns = layers[layer].ncols();
        masks[layer][[place / columns, place % columns]] = false;
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
    fn a_fraction_that_is_none_is_refused() {
        let layer = Array2::<f32>::zeros((2, 2));
        for remove in [-0.1, 1.1, f64::NAN] {
            assert!(per_layer(layer.view(), remove).is_err());
        }
    }
}
