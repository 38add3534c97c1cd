//! AVX2 and FMA: tiles of 8 columns for groups of eight, of which eight rows fill half of the sixteen
//! registers; of 16 and 32 columns for groups of four and two.

use std::arch::x86_64::*;
use std::ops::Range;

use super::columns::{ColumnsKernel, Piece, PieceFunction, Tile, TileFunctions};
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::{Kernel, Layer};
use crate::device::cpu::Avx2;

const LANES: usize = 8;

pub(super) fn pack_rows(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    let function: SlicesFunction = match layer.weights.width() {
        2 => slices::<2>,
        4 => slices::<4>,
        8 => slices::<8>,
        16 => slices::<16>,
        _ => return pack_columns(layer),
    };
    // SAFETY: `Avx2::new` has found the instructions; the function is for the layer's width.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`SlicesFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn slices<const W: usize>(
    rows: &Rows,
    x: &[f32],
    range: Range<usize>,
    out: &mut [[f32; ROWS]],
) {
    // SAFETY: by the caller's word.
    unsafe { rows.compute::<W, true>(x, range, out) };
}

pub(super) fn pack_columns(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    Avx2::new()?;
    let narrow = |function: PieceFunction| (LANES, function);
    let (rank, wide, narrow) = match layer.weights.width() {
        8.. => (8, narrow(piece::<8, 1>), narrow(piece::<8, 1>)),
        4.. => (4, (2 * LANES, piece::<4, 2> as PieceFunction), narrow(piece::<4, 1>)),
        _ => (2, (4 * LANES, piece::<2, 4> as PieceFunction), narrow(piece::<2, 1>)),
    };
    // SAFETY: `Avx2::new` has found the instructions; the functions are for this rank.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, TileFunctions { wide, narrow }) }))
}

/// Tiles of `V` vectors.
///
/// # Safety
/// As [`PieceFunction`] asks; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn piece<const E: usize, const V: usize>(piece: &Piece, tile: &Tile) {
    let masks: [__m256i; V] = std::array::from_fn(|v| {
        let left = tile.valid.saturating_sub(v * LANES).min(LANES) as i32;
        _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    });
    let (rows, weights) = (piece.rows.as_ptr(), piece.weights.as_ptr());
    for (index, column) in piece.columns.iter().enumerate() {
        if let Some(next) = piece.columns.get(index + 1) {
            for lane in 0..next.width {
                // SAFETY: row first + lane of X exists; a prefetch faults nowhere.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(tile.row(next.first + lane).cast()) };
            }
        }
        let mut x = [[_mm256_setzero_ps(); V]; E];
        for (lane, x) in x.iter_mut().enumerate() {
            if lane < column.width {
                for v in 0..V {
                    // SAFETY: row first + lane of X exists; the mask keeps within its valid columns.
                    x[v] = unsafe {
                        let row = tile.row(column.first + lane);
                        _mm256_maskload_ps(row.wrapping_add(v * LANES), masks[v])
                    };
                }
            }
        }
        for entry in column.from..column.to {
            // SAFETY: a piece has a row and E weights for each entry of its columns; the tile of Y has
            // that row, of V vectors.
            unsafe {
                let y = tile.y.add(*rows.add(entry) as usize * V * LANES);
                let weights = weights.add(entry * E);
                let mut sums: [__m256; V] =
                    std::array::from_fn(|v| _mm256_loadu_ps(y.add(v * LANES)));
                for (lane, x) in x.iter().enumerate() {
                    let weight = _mm256_set1_ps(*weights.add(lane));
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum = _mm256_fmadd_ps(weight, x, *sum);
                    }
                }
                for (v, &sum) in sums.iter().enumerate() {
                    _mm256_storeu_ps(y.add(v * LANES), sum);
                }
            }
        }
    }
}
