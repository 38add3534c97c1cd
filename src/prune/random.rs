//! Random pruning: what any criterion has to beat at the same sparsity.

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
    fn other_seeds_remove_other_groups() {
        assert_ne!(groups((8, 64), 8, 0.5, 1).unwrap(), groups((8, 64), 8, 0.5, 2).unwrap());
    }
}
