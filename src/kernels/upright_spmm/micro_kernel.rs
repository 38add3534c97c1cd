//! A tile of `R` rows and `V` vectors of Y, in registers while the groups of its strip pass. Written over
//! [`Simd`], and inlined into functions that are compiled for one instruction set.

use super::columns::{End, Pass, Start, Sums};
use super::pack::AHEAD;
use crate::kernels::aligned::LINE;
use crate::kernels::simd::{Simd, WEIGHTS_AHEAD};
use crate::kernels::tile::{FindRow, Load, Tile, TileRows};

/// Computes the rows of a pass, `R` at a time, of a tile of `V` vectors.
///
/// # Safety
/// X has the rows of the pass's groups and of [`AHEAD`] more, each with the tile's columns; there are weights of
/// `height` rows for each group and, at the start, a bias for each of Y's rows; sums that come from a scratch, or stay in
/// one, have `V` vectors of each of the strips' rows there; the pass's rows are those of a strip, a multiple of `R`; no
/// other thread writes the rows of Y that they go to.
#[inline(always)]
pub(super) unsafe fn run<S: Simd, const R: usize, const V: usize>(
    simd: S,
    pass: &Pass<'_>,
    tile: &Tile,
) {
    // SAFETY: as this function asks; the tile is whole where that is said.
    unsafe {
        // In the loops that matter, no branch asks where the next row is.
        match &tile.rows {
            rows if !tile.is_whole(V, S::LANES) => {
                run_loaded::<S, R, V, false>(simd, pass, tile, rows);
            }
            TileRows::Strided(rows) => run_loaded::<S, R, V, true>(simd, pass, tile, rows),
            TileRows::Table(rows) => run_loaded::<S, R, V, true>(simd, pass, tile, rows),
        }
    }
}

/// # Safety
/// As for [`run`]; with `WHOLE`, every vector of the tile is of one line and whole.
#[inline(always)]
unsafe fn run_loaded<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(
    simd: S,
    pass: &Pass<'_>,
    tile: &Tile,
    rows: &impl FindRow,
) {
    let mut loads = [Load::new(simd, &tile.spans()[0]); V];
    for (load, span) in loads.iter_mut().zip(tile.spans()) {
        *load = Load::new(simd, span);
    }
    for (strip, groups) in pass.strips.iter().zip(pass.groups) {
        let columns = pass.columns.wrapping_add(groups.first);
        for own in pass.rows.clone().step_by(R) {
            let row = strip.first_row + own;
            let weights = pass.weights.wrapping_add(groups.weights + own);
            // SAFETY: the pass has these rows, of which there are `R`, and these groups, as `run` asks.
            unsafe {
                let sums = first_sums::<S, R, V>(simd, pass.start, row);
                let groups = (groups.count, columns, weights, pass.height);
                let sums = add::<S, R, V, WHOLE>(simd, groups, &loads, rows, sums);
                put_sums::<S, R, V>(simd, pass.end, row, sums);
            }
        }
    }
}

/// Adds the products of a strip's groups, given by their number, their rows of X, their weights and how far apart these
/// are, to its sums, and returns them.
///
/// # Safety
/// As for [`run_loaded`].
#[inline(always)]
unsafe fn add<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(
    simd: S,
    (count, columns, mut weights, height): (usize, *const u32, *const f32, usize),
    loads: &[Load<S>; V],
    rows: &impl FindRow,
    mut sums: [[S::Vector; V]; R],
) -> [[S::Vector; V]; R] {
    for index in 0..count {
        // SAFETY: there are the rows of these groups and of those ahead, and `R` weights for each, as `run` asks.
        unsafe {
            let ahead = rows.row(*columns.add(index + AHEAD) as usize);
            let mut v = 0;
            while v < V {
                simd.prefetch(ahead.wrapping_add(loads[v].at));
                v += (LINE / S::LANES).max(1);
            }
            simd.prefetch(weights.wrapping_add(WEIGHTS_AHEAD));
            let row = rows.row(*columns.add(index) as usize);
            let mut x = [simd.splat(0.0); V];
            for (x, load) in x.iter_mut().zip(loads) {
                *x = load.of::<WHOLE>(simd, row);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let weight = simd.splat(*weights.add(row));
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = simd.multiply_add(weight, x, *sum);
                }
            }
            weights = weights.wrapping_add(height);
        }
    }
    sums
}

/// What the sums of `R` rows of a tile, from `row` on, begin with.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn first_sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    start: Start,
    row: usize,
) -> [[S::Vector; V]; R] {
    let mut sums = [[simd.splat(0.0); V]; R];
    match start {
        Start::Bias(bias) => {
            for (own, sums) in sums.iter_mut().enumerate() {
                // SAFETY: there is a bias for each row, as `run` asks.
                *sums = [simd.splat(unsafe { *bias.add(row + own) }); V];
            }
        }
        Start::Sums(Sums { start, first_row }) => {
            for (own, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the scratch has `V` vectors of each row, as `run` asks.
                    unsafe {
                        let vector = (row - first_row + own) * V + v;
                        *sum = simd.load(start.add(vector * S::LANES));
                    }
                }
            }
        }
    }
    sums
}

/// Puts the sums of `R` rows of a tile, from `row` on, where they go.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn put_sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    end: End<'_>,
    row: usize,
    sums: [[S::Vector; V]; R],
) {
    match end {
        End::Sums(Sums { start, first_row }) => {
            for (own, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: the scratch has `V` vectors of each row, as `run` asks.
                    unsafe {
                        let vector = (row - first_row + own) * V + v;
                        simd.store(sum, start.add(vector * S::LANES));
                    }
                }
            }
        }
        End::Output { y, places, relu } => {
            let bound = simd.splat(if relu { 0.0 } else { f32::NEG_INFINITY });
            let places = *places.first_chunk().expect("a place for each vector");
            // SAFETY: no other thread writes these rows and columns, as `run` asks.
            unsafe { y.write_registers(simd, bound, row, places, sums) };
        }
    }
}
