//! The portable variants: arrays of fixed size, which compilers turn into vectors of any kind.

use std::ops::Range;

use super::columns::{self, ColumnsKernel, Functions, TileFunction};
use super::micro_kernel;
use super::pack::KBlockView;
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::{GroupLayer, Kernel};
use crate::kernels::simd::{Portable, Simd};
use crate::kernels::tile::Tile;
use crate::kernels::tile::output::{Placed, SharedOutput};

/// Rank of the widest update: its rows of X, of two vectors each, must fit into the registers beside a
/// row of Y. x86 has sixteen without AVX, Arm has thirty-two.
const RANK: usize = if cfg!(target_arch = "x86_64") { 4 } else { 8 };

const LANES: usize = Portable::LANES;

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
    // SAFETY: `compute` asks what `SlicesFunction` asks.
    unsafe { rows.compute::<W, false>(x, range, out) };
}

pub(super) fn pack_columns(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    let rank = columns::rank(layer.weights.width()).min(RANK);
    let tiles = &[TileFunction { width: LANES, add }];
    let functions = Functions { tiles, rows: 512, fill: columns::fill::<LANES>, write };
    // SAFETY: compiled for every processor; `add` knows every rank up to this one.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, functions) }))
}

/// # Safety
/// As [`Functions`] asks.
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    // SAFETY: `Functions` asks that no other thread writes these rows and columns.
    unsafe { y.write_activated(Portable, tile, placed) };
}

/// # Safety
/// As [`Functions`] asks.
unsafe fn add(k_block: &KBlockView<'_>, tile: &Tile, y: *mut f32) {
    // SAFETY: `Functions` asks for the rows of X and of the tile.
    unsafe { micro_kernel::add::<_, RANK, 1>(Portable, k_block, tile, y) };
}
