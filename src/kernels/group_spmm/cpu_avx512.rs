//! AVX-512: tiles of 32 columns, of which eight rows of X are sixteen of the thirty-two registers; or
//! of 16.

use std::arch::x86_64::*;
use std::ops::Range;

use super::columns::{ColumnsKernel, Piece, PieceFunction, Tile, TileFunctions};
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::{Kernel, Layer};
use crate::device::cpu::Avx512;

const LANES: usize = 16;

pub(super) fn pack_rows(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    let function: SlicesFunction = match layer.weights.width() {
        2 => slices::<2>,
        4 => slices::<4>,
        8 => slices::<8>,
        16 => slices::<16>,
        _ => return pack_columns(layer),
    };
    // SAFETY: `Avx512::new` has found the instructions; the function is for the layer's width.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`SlicesFunction`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn slices<const W: usize>(
    rows: &Rows,
    x: &[f32],
    range: Range<usize>,
    out: &mut [[f32; ROWS]],
) {
    // SAFETY: by the caller's word.
    unsafe { rows.compute::<W, true>(x, range, out) };
}

/// Tiles of 32 columns, the last of 16 where that is enough.
pub(super) fn pack_columns(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, false)
}

/// Tiles of 16 columns, which leave room for blocks of twice as many rows.
pub(super) fn pack_narrow(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, true)
}

fn pack(layer: &Layer<'_>, only_narrow: bool) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    let (rank, wide, narrow): (usize, PieceFunction, PieceFunction) = match layer.weights.width() {
        8.. => (8, piece::<8, 2>, piece::<8, 1>),
        4.. => (4, piece::<4, 2>, piece::<4, 1>),
        _ => (2, piece::<2, 2>, piece::<2, 1>),
    };
    let narrow = (LANES, narrow);
    let wide = if only_narrow { narrow } else { (2 * LANES, wide) };
    // SAFETY: `Avx512::new` has found the instructions; the functions are for this rank.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, TileFunctions { wide, narrow }) }))
}

/// Tiles of `V` vectors.
///
/// # Safety
/// As [`PieceFunction`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn piece<const E: usize, const V: usize>(piece: &Piece, tile: &Tile) {
    let masks: [__mmask16; V] = std::array::from_fn(|v| {
        let left = tile.valid.saturating_sub(v * LANES).min(LANES);
        ((1_u32 << left) - 1) as __mmask16
    });
    let (rows, weights) = (piece.rows.as_ptr(), piece.weights.as_ptr());
    for (index, column) in piece.columns.iter().enumerate() {
        if let Some(next) = piece.columns.get(index + 1) {
            for lane in 0..next.width {
                // SAFETY: row first + lane of X exists; a prefetch faults nowhere.
                unsafe {
                    let row = tile.row(next.first + lane);
                    for v in 0..V {
                        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(v * LANES).cast());
                    }
                }
            }
        }
        let mut x = [[_mm512_setzero_ps(); V]; E];
        for (lane, x) in x.iter_mut().enumerate() {
            if lane < column.width {
                for v in 0..V {
                    // SAFETY: row first + lane of X exists; the mask keeps within its valid columns.
                    x[v] = unsafe {
                        let row = tile.row(column.first + lane);
                        _mm512_maskz_loadu_ps(masks[v], row.wrapping_add(v * LANES))
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
                let mut sums: [__m512; V] =
                    std::array::from_fn(|v| _mm512_loadu_ps(y.add(v * LANES)));
                for (lane, x) in x.iter().enumerate() {
                    let weight = _mm512_set1_ps(*weights.add(lane));
                    for (sum, &x) in sums.iter_mut().zip(x) {
                        *sum = _mm512_fmadd_ps(weight, x, *sum);
                    }
                }
                for (v, &sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(y.add(v * LANES), sum);
                }
            }
        }
    }
}
