//! AVX-512: tiles of 48 columns, of which eight rows of X are twenty-four of the thirty-two registers, and two rows of
//! sums six; of 32; or of 16.

use std::ops::Range;

use super::columns::{self, ColumnsKernel, Functions, TileFunction};
use super::micro_kernel;
use super::pack::KBlockView;
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::{GroupLayer, Kernel, x86_avx2};
use crate::device::cpu::{self, Avx512};
use crate::kernels::simd::Simd;
use crate::kernels::tile::Tile;
use crate::kernels::tile::output::{Placed, SharedOutput};

const LANES: usize = Avx512::LANES;

pub(super) fn pack_rows(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    let function: SlicesFunction = match layer.weights.width() {
        2 => slices::<2>,
        4 => slices::<4>,
        // A load is what bounds it, and two of eight lanes are no slower than one of sixteen.
        8 | 16 => x86_avx2::vector_slices(layer),
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
    // SAFETY: `compute` asks what `SlicesFunction` asks.
    unsafe { rows.compute::<W, true>(x, range, out) };
}

/// Tiles of 48 columns, the last ones of 32 or 16 where that is enough.
pub(super) fn pack_columns(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, false)
}

/// Tiles of 16 columns, in blocks of twice as many rows.
pub(super) fn pack_narrow(layer: &GroupLayer<'_>) -> Option<Box<dyn Kernel>> {
    pack(layer, true)
}

const TILES: &[TileFunction] = &[
    TileFunction { width: LANES, add: add::<1> },
    TileFunction { width: 2 * LANES, add: add::<2> },
    TileFunction { width: 3 * LANES, add: add::<3> },
];

fn pack(layer: &GroupLayer<'_>, only_narrow: bool) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    let rank = columns::rank(layer.weights.width());
    let tiles = if only_narrow { &TILES[..1] } else { TILES };
    // A tile of Y fills the first-level cache.
    let widest = tiles[tiles.len() - 1].width;
    let rows = cpu::caches().l1 / (4 * widest);
    let functions = Functions { tiles, rows, fill, write };
    // SAFETY: `Avx512::new` has found the instructions; the functions know every rank.
    Some(Box::new(unsafe { ColumnsKernel::new(layer, rank, functions) }))
}

#[target_feature(enable = "avx512f")]
fn fill(tile: &mut [f32], width: usize, bias: &[f32]) {
    columns::fill::<LANES>(tile, width, bias);
}

/// # Safety
/// As [`Functions`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn write(y: &SharedOutput<'_>, tile: &[f32], placed: &Placed<'_>) {
    // SAFETY: the processor has AVX-512F, and no other thread writes there, as this function asks.
    unsafe { y.write_activated(Avx512::promised(), tile, placed) };
}

/// Adds a K block to a tile of `V` vectors.
///
/// # Safety
/// As [`Functions`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn add<const V: usize>(k_block: &KBlockView<'_>, tile: &Tile, y: *mut f32) {
    // SAFETY: the processor has AVX-512F, and the operands have the rows, as this function asks.
    unsafe { micro_kernel::add::<_, 8, V>(Avx512::promised(), k_block, tile, y) };
}
