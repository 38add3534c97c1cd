//! Random pruning: what any criterion has to beat at the same sparsity.

use ndarray::{ArrayView2, s};
use rand::seq::SliceRandom;

use super::{WeightMask, fraction, simd};
use crate::error::Result;
use crate::seed;

/// A mask over `[rows, columns]` that removes the given fraction of the aligned groups of `width`
/// weights, to the nearest whole number of groups; width 1 removes single weights. A partial last
/// group stays, as in [`simd::mask`]. Equal seeds give equal masks.
///
/// # Errors
/// A width of 0, a fraction outside 0 to 1.
pub fn groups(
    (rows, columns): (usize, usize),
    width: usize,
    remove: f64,
    seed: u64,
) -> Result<WeightMask> {
    simd::check_width(width)?;
    fraction("random pruning", remove)?;
    let per_row = columns / width;
    let kept = chosen(rows * per_row, remove, seed, "random groups");
    Ok(simd::mask_by_groups((rows, columns), width, |row, group| kept[row * per_row + group]))
}

/// A mask over `weights`, `[rows, columns]`, without the fraction `remove` of its whole groups: those
/// that are all 0 by now go first, the rest is chosen at random.
///
/// # Errors
/// A width of 0, a fraction that is none.
pub fn further_groups(
    weights: ArrayView2<'_, f32>,
    width: usize,
    remove: f64,
    seed: u64,
) -> Result<WeightMask> {
    simd::check_width(width)?;
    fraction("random pruning", remove)?;
    let per_row = weights.ncols() / width;
    let count = weights.nrows() * per_row;
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut seed::stream(seed, "random groups", &[count as u64]));
    let is_gone = |group: &usize| {
        let first = group % per_row * width;
        let weights = weights.slice(s![group / per_row, first..first + width]);
        weights.iter().all(|&weight| weight == 0.0)
    };
    order.sort_by_key(|group| !is_gone(group)); // stable: the living stay in their random order
    let mut kept = vec![true; order.len()];
    let removed = (remove * order.len() as f64).round() as usize;
    order[..removed].iter().for_each(|&group| kept[group] = false);
    Ok(simd::mask_by_groups(weights.dim(), width, |row, group| kept[row * per_row + group]))
}

/// Flags for `count` nodes, of which the given fraction is blocked. Equal seeds give equal flags.
///
/// # Errors
/// A fraction outside 0 to 1.
pub fn nodes(count: usize, remove: f64, seed: u64) -> Result<Vec<bool>> {
    fraction("random pruning", remove)?;
    Ok(chosen(count, remove, seed, "random nodes"))
}

fn chosen(count: usize, remove: f64, seed: u64, purpose: &str) -> Vec<bool> {
    let removed = (remove * count as f64).round() as usize;
    let mut kept: Vec<bool> = (0..count).map(|place| place >= removed).collect();
    kept.shuffle(&mut seed::stream(seed, purpose, &[count as u64]));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::kept;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fraction_of_whole_groups_is_removed(
            rows in 0..8_usize, columns in 0..40_usize, width in 1..9_usize, remove in 0.0..=1.0_f64,
            seed in any::<u64>(),
        ) {
            let mask = groups((rows, columns), width, remove, seed).unwrap();
            let whole = rows * (columns / width);
            let removed = (remove * whole as f64).round() as usize;
            prop_assert_eq!(kept(&mask), rows * columns - removed * width);
            prop_assert_eq!(&mask, &groups((rows, columns), width, remove, seed).unwrap());
        }

        #[test]
        fn the_fraction_of_nodes_is_blocked(count in 0..100_usize, remove in 0.0..=1.0_f64) {
            let alive = nodes(count, remove, 5).unwrap();
            let blocked = (remove * count as f64).round() as usize;
            prop_assert_eq!(crate::prune::node::count(&alive), count - blocked);
        }
    }

    #[test]
    fn groups_that_are_gone_go_first() {
        let whole = ndarray::Array2::from_elem((8, 67), 1.0_f32);
        let first = further_groups(whole.view(), 8, 0.5, 1).unwrap();
        assert_eq!(kept(&first), 8 * 3 + 8 * 8 * 8 / 2);
        let mut left = whole.into_dyn();
        crate::prune::apply("w", &mut left, &first).unwrap();
        let left = left.into_dimensionality::<ndarray::Ix2>().unwrap();
        let second = further_groups(left.view(), 8, 0.75, 2).unwrap();
        assert_eq!(kept(&second), 8 * 3 + 8 * 8 * 8 / 4);
        assert!(first.iter().zip(&second).all(|(&before, &after)| before || !after));
    }

    #[test]
    fn other_seeds_remove_other_groups() {
        assert_ne!(groups((8, 64), 8, 0.5, 1).unwrap(), groups((8, 64), 8, 0.5, 2).unwrap());
    }
}
