//! What every instruction set does with a tile of Y: the rank-E updates of a K block's group columns. Written over
//! [`Simd`], and inlined into functions that are compiled for one.

use super::pack::{GroupColumn, KBlockView};
use crate::kernels::aligned::LINE;
use crate::kernels::simd::{Simd, WEIGHTS_AHEAD};
use crate::kernels::tile::{FindRow, Load, Tile};

/// Adds a K block, whose columns have ranks up to `MOST`, to a tile of `V` vectors.
///
/// # Safety
/// X has the rows of the block's group columns, each with the tile's columns; the tile of Y has the rows of
/// its entries, each of `V` vectors.
#[inline(always)]
pub(super) unsafe fn add<S: Simd, const MOST: usize, const V: usize>(
    simd: S,
    k_block: &KBlockView<'_>,
    tile: &Tile,
    y: *mut f32,
) {
    // SAFETY: as this function asks; the tile is whole where that is said.
    unsafe {
        if tile.is_whole(V, S::LANES) {
            add_loaded::<S, MOST, V, true>(simd, k_block, tile, y);
        } else {
            add_loaded::<S, MOST, V, false>(simd, k_block, tile, y);
        }
    }
}

/// # Safety
/// As for [`add`]; with `WHOLE`, every vector of the tile is of one line and whole.
#[inline(always)]
unsafe fn add_loaded<S: Simd, const MOST: usize, const V: usize, const WHOLE: bool>(
    simd: S,
    k_block: &KBlockView<'_>,
    tile: &Tile,
    y: *mut f32,
) {
    let mut loads = [Load::new(simd, &tile.spans()[0]); V];
    for (load, span) in loads.iter_mut().zip(tile.spans()) {
        *load = Load::new(simd, span);
    }
    for (index, column) in k_block.columns.iter().enumerate() {
        if tile.ahead
            && let Some(next) = k_block.columns.get(index + 1)
        {
            for lane in 0..next.width() {
                // SAFETY: X has the rows of the block's group columns.
                let row = unsafe { tile.rows.row(next.first() + lane) };
                let mut v = 0;
                while v < V {
                    simd.prefetch(row.wrapping_add(loads[v].at));
                    v += (LINE / S::LANES).max(1);
                }
            }
        }
        // SAFETY: as this function asks; the column is one of the block, of this rank.
        unsafe {
            match column.rank() {
                8 if MOST >= 8 => update::<S, 8, V, WHOLE>(simd, k_block, column, tile, &loads, y),
                4 if MOST >= 4 => update::<S, 4, V, WHOLE>(simd, k_block, column, tile, &loads, y),
                2 => update::<S, 2, V, WHOLE>(simd, k_block, column, tile, &loads, y),
                _ => update::<S, 1, V, WHOLE>(simd, k_block, column, tile, &loads, y),
            }
        }
    }
}

/// A rank-`E` update: `E` rows of X in registers, and for each entry its row of the tile.
///
/// # Safety
/// As for [`add_loaded`]; the column is one of the block, of rank `E`.
#[inline(always)]
unsafe fn update<S: Simd, const E: usize, const V: usize, const WHOLE: bool>(
    simd: S,
    k_block: &KBlockView<'_>,
    column: &GroupColumn,
    tile: &Tile,
    loads: &[Load<S>; V],
    y: *mut f32,
) {
    let mut x = [[simd.splat(0.0); V]; E];
    for (lane, x) in x.iter_mut().enumerate() {
        if lane < column.width() {
            // SAFETY: X has row first + lane, with the tile's columns.
            unsafe {
                let row = tile.rows.row(column.first() + lane);
                for (x, load) in x.iter_mut().zip(loads) {
                    *x = load.of::<WHOLE>(simd, row);
                }
            }
        }
    }
    let (rows, weights) = k_block.entries::<E>(column);
    let row_of = |row: u32| y.wrapping_add(row as usize * V * S::LANES);
    // X, two rows of sums, two weights.
    let paired = if E * V + 2 * V + 2 <= S::REGISTERS { rows.len() / 2 * 2 } else { 0 };
    let ((pairs, last), (weight_pairs, last_weights)) =
        (rows.split_at(paired), weights.split_at(paired));
    for (&[first, second], weights) in pairs.as_chunks().0.iter().zip(weight_pairs.as_chunks().0) {
        simd.prefetch(weights.as_ptr().cast::<f32>().wrapping_add(WEIGHTS_AHEAD));
        // SAFETY: the tile of Y has these rows, of V vectors, and a column has no row twice.
        unsafe { add_entries(simd, [row_of(first), row_of(second)], weights, &x) };
    }
    for (&row, weights) in last.iter().zip(last_weights) {
        // SAFETY: the tile of Y has that row, of V vectors.
        unsafe { add_entries(simd, [row_of(row)], &[*weights], &x) };
    }
}

/// Adds `R` entries' products to their rows, `E` rows of X of `V` vectors each. The sums of one entry wait for each
/// other, so two at once keep a processor busier (AVX-512, Intel, tiles of two vectors: 4% to 9% faster).
///
/// # Safety
/// The rows have `V` vectors each and are different ones.
#[inline(always)]
unsafe fn add_entries<S: Simd, const R: usize, const E: usize, const V: usize>(
    simd: S,
    rows: [*mut f32; R],
    weights: &[[f32; E]; R],
    x: &[[S::Vector; V]; E],
) {
    let mut sums = [[simd.splat(0.0); V]; R];
    for (sums, row) in sums.iter_mut().zip(rows) {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the row has V vectors.
            *sum = unsafe { simd.load(row.add(v * S::LANES)) };
        }
    }
    for (lane, x) in x.iter().enumerate() {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            let weight = simd.splat(weights[lane]);
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum = simd.multiply_add(weight, x, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(rows) {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe { simd.store(sum, row.add(v * S::LANES)) };
        }
    }
}
