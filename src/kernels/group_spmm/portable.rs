//! The portable variants: arrays of fixed size, which compilers turn into vectors of any kind.

use std::ops::Range;

use super::columns::{self, ColumnsKernel, Functions, TileFunction};
use super::output::{Placed, SharedOutput};
use super::pack::{GroupColumn, KBlockView};
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::tiles::{Span, Tile};
use super::{GroupLayer, Kernel};
use crate::kernels::activate;

/// Rank of the widest update: its rows of X, of two vectors each, must fit into the registers beside a
/// row of Y. x86 has sixteen without AVX, Arm has thirty-two.
const RANK: usize = if cfg!(target_arch = "x86_64") { 4 } else { 8 };

/// Columns of a tile.
const TILE: usize = 8;

pub(super) fn pack_rows(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
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

pub(super) fn pack_columns(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    let rank = columns::rank(layer.weights.width()).min(RANK);
    let tiles = &[TileFunction { width: TILE, add }];
    let functions = Functions { tiles, rows: 512, fill: columns::fill::<TILE>, write };
    // SAFETY: compiled for every processor, and for every rank.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, functions) }))
}

/// # Safety
/// As [`Functions`] asks.
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    let copy = |from: *const f32, to: *mut f32, length: usize| {
        for place in 0..length {
            // SAFETY: below the length.
            unsafe { *to.add(place) = activate(*from.add(place), placed.relu) };
        }
    };
    // SAFETY: by the caller's word.
    unsafe { y.write::<TILE>(tile, placed, copy) };
}

/// # Safety
/// As [`Functions`] asks.
unsafe fn add(k_block: &KBlockView<'_>, tile: &Tile) {
    for column in k_block.columns {
        // SAFETY: by the caller's word.
        unsafe {
            match column.rank() {
                8 => update::<8>(k_block, column, tile),
                4 => update::<4>(k_block, column, tile),
                2 => update::<2>(k_block, column, tile),
                _ => update::<1>(k_block, column, tile),
            }
        }
    }
}

/// # Safety
/// As for [`add`]; the column is one of the K block, of rank `E`.
unsafe fn update<const E: usize>(k_block: &KBlockView<'_>, column: &GroupColumn, tile: &Tile) {
    let mut x = [[0.0_f32; TILE]; E];
    for (lane, x) in x.iter_mut().enumerate().take(column.width()) {
        let Span { at, own, next, valid } = tile.spans()[0];
        // SAFETY: row first + lane of X exists, and has the columns of the tile's one vector.
        let columns = |from, count| unsafe {
            std::slice::from_raw_parts(tile.row(column.first() + lane).add(from), count)
        };
        x[..own].copy_from_slice(columns(at, own));
        if own < valid {
            x[own..valid].copy_from_slice(columns(next, valid - own));
        }
    }
    let (rows, weights) = k_block.entries::<E>(column);
    for (&row, weights) in rows.iter().zip(weights) {
        // SAFETY: the tile of Y has this row, and each row has TILE columns.
        let y = unsafe { &mut *tile.y.add(row as usize * TILE).cast::<[f32; TILE]>() };
        let mut sums = *y; // in registers: nothing says that the weights lie elsewhere
        for (weight, x) in weights.iter().zip(&x) {
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += weight * x;
            }
        }
        *y = sums;
    }
}
