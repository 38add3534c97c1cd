//! A tile of `R` rows and `V` vectors of Y, in registers while the groups of its strip pass. Written over
//! [`Simd`], and inlined into functions that are compiled for one instruction set.

use super::columns::{End, Pass, Start};
use super::pack::AHEAD;
use crate::kernels::simd::Simd;
use crate::kernels::tile::{FindRow, LINE, Load, Tile, TileRows};

/// Adds a pass's products to its rows of a tile of `V` vectors.
///
/// # Safety
/// X has the rows of the pass's groups and of [`AHEAD`] more, each with the tile's columns; there are weights of
/// `R` rows for each group and, at the start, of `R` biases; sums that come from a scratch, or stay in one, have `R`
/// rows of `V` vectors there; no other thread writes the rows of Y that they go to.
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
    // SAFETY: as `run` asks.
    let mut sums = unsafe { first_sums::<S, R, V>(simd, &pass.start) };
    let mut weights = pass.weights;
    for index in 0..pass.groups {
        // SAFETY: there are the rows of these groups and of those ahead, and `R` weights for each, as `run` asks.
        unsafe {
            let ahead = rows.row(*pass.columns.add(index + AHEAD) as usize);
            let mut v = 0;
            while v < V {
                simd.prefetch(ahead.wrapping_add(loads[v].at));
                v += (LINE / S::LANES).max(1);
            }
            let row = rows.row(*pass.columns.add(index) as usize);
            let mut x = [simd.splat(0.0); V];
            for (x, load) in x.iter_mut().zip(&loads) {
                *x = load.of::<WHOLE>(simd, row);
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let weight = simd.splat(*weights.add(row));
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = simd.multiply_add(weight, x, *sum);
                }
            }
            weights = weights.wrapping_add(pass.stride);
        }
    }
    // SAFETY: as `run` asks.
    unsafe { put_sums::<S, R, V>(simd, &pass.end, &sums) };
}

/// What the sums of a tile begin with.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn first_sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    start: &Start,
) -> [[S::Vector; V]; R] {
    let mut sums = [[simd.splat(0.0); V]; R];
    match *start {
        Start::Bias(bias) => {
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: there are `R` biases, as `run` asks.
                *sums = [simd.splat(unsafe { *bias.add(row) }); V];
            }
        }
        Start::Sums(from) => {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the scratch has `R` rows of `V` vectors, as `run` asks.
                    *sum = unsafe { simd.load(from.add((row * V + v) * S::LANES)) };
                }
            }
        }
    }
    sums
}

/// Puts the sums of a tile where they go.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn put_sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    end: &End<'_>,
    sums: &[[S::Vector; V]; R],
) {
    match *end {
        End::Sums(to) => {
            for (row, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: the scratch has `R` rows of `V` vectors, as `run` asks.
                    unsafe { simd.store(sum, to.add((row * V + v) * S::LANES)) };
                }
            }
        }
        End::Output { y, first_row, places, relu } => {
            let bound = simd.splat(if relu { 0.0 } else { f32::NEG_INFINITY });
            let places = places.first_chunk().expect("a place for each vector");
            // SAFETY: no other thread writes these rows and columns, as `run` asks.
            unsafe { y.write_registers(simd, bound, first_row, places, sums) };
        }
    }
}
