//! The portable variants: arrays of fixed size, which compilers turn into vectors of any kind.

use std::ops::Range;

use super::columns::{ColumnsKernel, Piece, PieceFunction, Tile, TileFunctions};
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::{Kernel, Layer};

/// Columns of a tile.
const TILE: usize = 8;

pub(super) fn pack_rows(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    let function: SlicesFunction = match layer.weights.width() {
        2 => slices::<2>,
        4 => slices::<4>,
        8 => slices::<8>,
        16 => slices::<16>,
        _ => return pack_columns(layer),
    };
    // SAFETY: compiled for every processor, and for the layer's width.
    Some(Box::new(unsafe { RowsKernel::new(layer, function) }))
}

/// # Safety
/// As [`SlicesFunction`] asks.
unsafe fn slices<const W: usize>(
    rows: &Rows,
    x: &[f32],
    range: Range<usize>,
    out: &mut [[f32; ROWS]],
) {
    // SAFETY: by the caller's word.
    unsafe { rows.compute::<W, false>(x, range, out) };
}

pub(super) fn pack_columns(layer: &Layer<'_>) -> Option<Box<dyn Kernel>> {
    let (rank, function): (usize, PieceFunction) = match layer.weights.width() {
        8.. => (8, piece::<8>),
        4.. => (4, piece::<4>),
        _ => (2, piece::<2>),
    };
    let functions = TileFunctions { wide: (TILE, function), narrow: (TILE, function) };
    // SAFETY: compiled for every processor, and for this rank.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, functions) }))
}

/// # Safety
/// As [`PieceFunction`] asks.
unsafe fn piece<const E: usize>(piece: &Piece, tile: &Tile) {
    let (weights, _) = piece.weights.as_chunks::<E>();
    for column in &piece.columns {
        let mut x = [[0.0_f32; TILE]; E];
        for (lane, x) in x.iter_mut().enumerate().take(column.width) {
            // SAFETY: row first + lane of X exists, and has `valid` columns from the tile's first on.
            let row =
                unsafe { std::slice::from_raw_parts(tile.row(column.first + lane), tile.valid) };
            x[..tile.valid].copy_from_slice(row);
        }
        let entries = column.from..column.to;
        for (&row, weights) in piece.rows[entries.clone()].iter().zip(&weights[entries]) {
            // SAFETY: the tile of Y has this row, and each row has TILE columns.
            let y = unsafe { &mut *tile.y.add(row as usize * TILE).cast::<[f32; TILE]>() };
            for (weight, x) in weights.iter().zip(&x) {
                for (y, x) in y.iter_mut().zip(x) {
                    *y += weight * x;
                }
            }
        }
    }
}
