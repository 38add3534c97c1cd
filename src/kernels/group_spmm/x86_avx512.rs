//! AVX-512: tiles of 32 columns, of which eight rows of X are sixteen of the thirty-two registers; or
//! of 16.

use std::arch::x86_64::*;
use std::ops::Range;

use super::columns::{self, ColumnsKernel, Functions, TileFunction};
use super::output::{Placed, SharedOutput};
use super::pack::{GroupColumn, KBlockView};
use super::rows::{ROWS, Rows, RowsKernel, SlicesFunction};
use super::tiles::{Span, Tile};
use super::{GroupLayer, Kernel, x86_avx2};
use crate::device::cpu::Avx512;

const LANES: usize = 16;

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
    // SAFETY: by the caller's word.
    unsafe { rows.compute::<W, true>(x, range, out) };
}

/// Tiles of 32 columns, the last of 16 where that is enough.
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
];

fn pack(layer: &GroupLayer<'_>, only_narrow: bool) -> Option<Box<dyn Kernel>> {
    Avx512::new()?;
    let rank = columns::rank(layer.weights.width());
    let tiles = if only_narrow { &TILES[..1] } else { TILES };
    // A tile of Y fills 32 KiB, the least that first-level caches have.
    let rows = if only_narrow { 512 } else { 256 };
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
    // What is below it becomes the bound: 0, or nothing. A NaN stays, as `max` gives its second operand.
    let bound = _mm512_set1_ps(if placed.relu { 0.0 } else { f32::NEG_INFINITY });
    let copy = |from: *const f32, to: *mut f32, length: usize| {
        let whole = length / LANES * LANES;
        // SAFETY: whole vectors, and a mask for the rest, keep within the length. (Masked stores are
        // slow on some processors, so that whole vectors do without.)
        unsafe {
            for done in (0..whole).step_by(LANES) {
                let values = _mm512_loadu_ps(from.add(done));
                _mm512_storeu_ps(to.add(done), _mm512_max_ps(bound, values));
            }
            if whole < length {
                let mask = mask(length - whole);
                let values = _mm512_maskz_loadu_ps(mask, from.add(whole));
                _mm512_mask_storeu_ps(to.add(whole), mask, _mm512_max_ps(bound, values));
            }
        }
    };
    // SAFETY: by the caller's word.
    unsafe { y.write::<LANES>(tile, placed, copy) };
}

/// The first `length` lanes.
fn mask(length: usize) -> __mmask16 {
    ((1_u32 << length.min(LANES)) - 1) as __mmask16
}

/// What a vector takes of a row of X, as masks: the lanes of one line, and those of the next.
#[derive(Clone, Copy)]
struct Load {
    /// Whether all lanes are of one line.
    whole: bool,
    at: usize,
    own: __mmask16,
    /// Where the next line's lanes would start if they were the vector's first.
    next: usize,
    rest: __mmask16,
}

impl Load {
    fn new(&Span { at, own, next, valid }: &Span) -> Self {
        let rest = mask(valid) & !mask(own);
        let (whole, next) = (own == LANES, next.wrapping_sub(own));
        Self { whole, at, own: mask(own), next, rest }
    }

    /// The vector, 0 after what it takes. `WHOLE` says that it is whole.
    ///
    /// # Safety
    /// The row has these columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn of<const WHOLE: bool>(&self, row: *const f32) -> __m512 {
        // SAFETY: the masks keep within the columns.
        unsafe {
            let first = row.wrapping_add(self.at);
            if WHOLE || self.whole {
                return _mm512_loadu_ps(first);
            }
            let own = _mm512_maskz_loadu_ps(self.own, first);
            _mm512_mask_loadu_ps(own, self.rest, row.wrapping_add(self.next))
        }
    }
}

/// Adds a K block to a tile of `V` vectors.
///
/// # Safety
/// As [`Functions`] asks; the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn add<const V: usize>(k_block: &KBlockView<'_>, tile: &Tile) {
    // SAFETY: by the caller's word.
    unsafe {
        if tile.is_whole(V, LANES) {
            add_loaded::<V, true>(k_block, tile);
        } else {
            add_loaded::<V, false>(k_block, tile);
        }
    }
}

/// # Safety
/// As for [`add`]; the tile is whole where it is said to be.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_loaded<const V: usize, const WHOLE: bool>(k_block: &KBlockView<'_>, tile: &Tile) {
    let loads: [Load; V] = std::array::from_fn(|v| Load::new(&tile.spans()[v]));
    for (index, column) in k_block.columns.iter().enumerate() {
        if tile.ahead
            && let Some(next) = k_block.columns.get(index + 1)
        {
            for lane in 0..next.width() {
                // SAFETY: row first + lane of X exists; a prefetch faults nowhere.
                unsafe {
                    let row = tile.row(next.first() + lane);
                    for load in &loads {
                        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(load.at).cast());
                    }
                }
            }
        }
        // SAFETY: by the caller's word.
        unsafe {
            match column.rank() {
                8 => update::<8, V, WHOLE>(k_block, column, tile, &loads),
                4 => update::<4, V, WHOLE>(k_block, column, tile, &loads),
                2 => update::<2, V, WHOLE>(k_block, column, tile, &loads),
                _ => update::<1, V, WHOLE>(k_block, column, tile, &loads),
            }
        }
    }
}

/// # Safety
/// As for [`add_loaded`]; the column is one of the K block, of rank `E`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn update<const E: usize, const V: usize, const WHOLE: bool>(
    k_block: &KBlockView<'_>,
    column: &GroupColumn,
    tile: &Tile,
    loads: &[Load; V],
) {
    let mut x = [[_mm512_setzero_ps(); V]; E];
    for (lane, x) in x.iter_mut().enumerate() {
        if lane < column.width() {
            // SAFETY: row first + lane of X exists, and has the tile's columns.
            unsafe {
                let row = tile.row(column.first() + lane);
                for (x, load) in x.iter_mut().zip(loads) {
                    *x = load.of::<WHOLE>(row);
                }
            }
        }
    }
    let (rows, weights) = k_block.entries::<E>(column);
    for (&row, weights) in rows.iter().zip(weights) {
        // SAFETY: the tile of Y has that row, of V vectors.
        unsafe {
            let y = tile.y.add(row as usize * V * LANES);
            let mut sums: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(y.add(v * LANES)));
            for (&weight, x) in weights.iter().zip(&x) {
                let weight = _mm512_set1_ps(weight);
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
